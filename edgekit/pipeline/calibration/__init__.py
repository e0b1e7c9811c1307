"""`edgekit calibrate`: measures small networks on a device and makes a target of it."""
