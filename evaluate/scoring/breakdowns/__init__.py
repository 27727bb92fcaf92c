"""Results looked at closely: clips, epochs, speakers and classes one by one."""
