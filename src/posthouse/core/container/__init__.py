"""Archives and compressed files, hostile ones too: their members, with bounds of octets, entries, ratio and depth."""
