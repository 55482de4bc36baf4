"""HTTP behind the edge: the public listener's pages, and the administrators' listener."""
