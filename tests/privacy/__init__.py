"""What an observer, a partner or a key's owner could read out of a whole job: nothing but what was agreed."""
