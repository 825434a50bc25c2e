"""Line searches and the methods that use them, for a function of a list of floats."""
