"""Weights in and out of other frameworks, one file each; none is imported by `import rnnjax`."""
