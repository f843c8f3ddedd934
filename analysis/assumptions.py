"""What results assume, in the words that derivations show."""

SPD = "U, Σ, P symmetric positive definite, λ > 0"
MOMENTS = "only the mean μ and the covariance Σ of the data are used, whatever their law"
SYMMETRIC = "gradients in a symmetric matrix X are symmetric G with dF = Tr(G dX)"
