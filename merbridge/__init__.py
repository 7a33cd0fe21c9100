"""The node agent: it knows the pods of this node and keeps the datapath true to them."""
