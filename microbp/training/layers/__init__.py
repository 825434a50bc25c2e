"""What the layers of a network do: norms of their activations, gradients, weights and updates; dead and saturated units."""
