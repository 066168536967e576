"""Files made from the journal: everything here can be deleted and rebuilt."""
