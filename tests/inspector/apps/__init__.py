"""Apps to look at. Each file stands alone: `microasgi trace shop:routes … --app-dir tests/inspector/apps`."""
