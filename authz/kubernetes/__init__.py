"""What Kubernetes knows that policy needs: policies as custom resources, and the labels of pods."""
