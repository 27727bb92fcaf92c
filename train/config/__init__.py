"""An experiment as a TOML file becomes typed settings."""
