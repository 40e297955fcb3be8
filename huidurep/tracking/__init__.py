"""The same neurons in sortings of several sessions."""
