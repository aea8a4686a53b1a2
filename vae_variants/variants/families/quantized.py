"""Autoencoders whose latents are codes of a finite alphabet, with a prior of codes."""

from vae_variants.variants.variant import family

add = family("quantised")

OORD = "van den Oord, Vinyals & Kavukcuoglu 2017, Neural discrete representation learning, arXiv:1711.00937"
LEE = "Lee et al. 2022, Residual quantization, arXiv:2203.01941; Zeghidour et al. 2021, SoundStream, arXiv:2107.03312"

# fmt: off
add("vq-vae", "nearest codes by straight-through gradients, codebook by its gradient, uniform prior of codes", OORD, model="quantized-vae")
add("vq-vae-ema", "the same, with a codebook of moving averages whose unused codes begin anew", OORD, model="quantized-vae", ema=True)
add("vq-vae-masked", "the same, with a masked autoregressive prior fitted to the codes afterwards", OORD,
    model="quantized-vae", ema=True, code_prior="masked")
add("vq-vae-pixelcnn", "codes in a grid of convolutions, with a gated PixelCNN fitted to them afterwards",
    f"{OORD}; van den Oord et al. 2016, Conditional image generation with PixelCNN decoders, arXiv:1606.05328",
    model="quantized-vae", ema=True, network="conv-grid", positions=0, code_prior="pixelcnn")
add("rvq-vae", "codes in three levels, each for what the levels above have left, masked prior", LEE,
    model="quantized-vae", quantizer="residual", code_prior="masked")
add("hrq-vae", "codes in three levels selected by Gumbel-softmax, masked prior",
    "Hosking, Tang & Lapata 2022, Hierarchical sketch induction, arXiv:2203.03463",
    model="quantized-vae", quantizer="hrq", code_prior="masked")
add("fsq-vae", "bounded numbers rounded to a grid, masked prior", "Mentzer et al. 2024, Finite scalar quantization, arXiv:2309.15505",
    model="quantized-vae", quantizer="fsq", code_prior="masked")
add("lfq-vae", "signs of numbers, with entropies of the codes in the loss, masked prior",
    "Yu et al. 2024, Language model beats diffusion: tokenizer is key, arXiv:2310.05737",
    model="quantized-vae", quantizer="lfq", code_prior="masked")
