"""The provider accounts of a process, and what bounds their calls: slots, permits."""
