"""Personal data: found, replaced before anything leaves the process or is learned from, put back, and erased."""
