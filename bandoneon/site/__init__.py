"""The site: its YAML file, what that asks of the Tango database, and the site that is up on this machine."""
