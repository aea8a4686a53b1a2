"""Chains of pixels, with an exact likelihood."""

from vae_variants.variants.variant import family

add = family("autoregressive")

MADE = "Germain et al. 2015, MADE, arXiv:1502.03509"
NADE = "Larochelle & Murray 2011, The neural autoregressive distribution estimator, AISTATS"
EONADE = "Uria, Murray & Larochelle 2014, A deep and tractable density estimator, arXiv:1310.1757"
PIXELCNN = "van den Oord, Kalchbrenner & Kavukcuoglu 2016, Pixel recurrent neural networks, arXiv:1601.06759"
GATED = "van den Oord et al. 2016, Conditional image generation with PixelCNN decoders, arXiv:1606.05328"
PIXELCNN_PP = "Salimans et al. 2017, PixelCNN++, arXiv:1701.05517"
PIXEL_VAE = "Gulrajani et al. 2017, PixelVAE: a latent variable model for natural images, ICLR"

# fmt: off
add("fvbn", "logistic autoregression over pixels: exact likelihood", "Frey, Hinton & Dayan 1996, NIPS", model="fvbn")
add("made", "masked autoregressive network, one order of the pixels", MADE, model="made")
add("made-orders-8", "the same over 8 orders, mixed as joints", MADE, model="made", orders=8)
add("nade", "neural autoregressive estimator: hidden units by a recurrence over pixels", NADE, model="nade")
add("eonade", "one network for all orders of the pixels, mixed over 8 of them", EONADE, model="eonade", orders=8)
add("pixelcnn", "masked convolutions: exact likelihood", PIXELCNN, model="pixelcnn")
add("gated-pixelcnn", "gated convolutions in two stacks, without blind spot", GATED, model="gated-pixelcnn")
add("pixelcnn-logistic", "gated PixelCNN, likelihood of PixelCNN++", PIXELCNN_PP, model="gated-pixelcnn", likelihood="logistic-mixture")
add("pixel-vae", "VAE with a small autoregressive decoder", PIXEL_VAE, model="pixel-vae")
