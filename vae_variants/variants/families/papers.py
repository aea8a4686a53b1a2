"""Papers that several families refer to."""

KINGMA = "Kingma & Welling 2014, Auto-Encoding Variational Bayes, arXiv:1312.6114"
IAF = "Kingma et al. 2016, Inverse autoregressive flow, arXiv:1606.04934"
MAF = "Papamakarios, Pavlakou & Murray 2017, Masked autoregressive flow, arXiv:1705.07057"
TWO_STAGE = "Dai & Wipf 2019, Diagnosing and enhancing VAE models, arXiv:1903.05789"
