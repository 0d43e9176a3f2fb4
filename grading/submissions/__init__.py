"""From an archive of unknown origin to what its code and its notebook show."""
