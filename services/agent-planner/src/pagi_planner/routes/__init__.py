"""The HTTP edge: translate, one domain call, translate back."""
