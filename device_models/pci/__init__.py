"""PCI: functions, buses, bridges, and how software reaches them."""
