"""What belongs to one paper: its tables, figures and the numbers behind them."""
