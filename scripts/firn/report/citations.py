"""Papers behind the methods, each with its DOI; those that a session's methods rest on are cited in its report."""

CITATIONS = {
    "bai2015": "Bai, Rajendra, Yang, Shi & Scheres (2015) Sampling the conformational space of the catalytic subunit of human γ-secretase. "
    "eLife 4, e11182. doi:10.7554/eLife.11182",
    "baldwin2020": "Baldwin & Lyumkis (2020) Non-uniformity of projection distributions attenuates resolution in cryo-EM. "
    "Prog. Biophys. Mol. Biol. 150, 160–183. doi:10.1016/j.pbiomolbio.2019.09.002",
    "bepler2019": "Bepler et al. (2019) Positive-unlabeled convolutional neural networks for particle picking in cryo-electron micrographs. "
    "Nat. Methods 16, 1153–1160. doi:10.1038/s41592-019-0575-8",
    "bepler2020": "Bepler, Kelley, Noble & Berger (2020) Topaz-Denoise: general deep denoising models for cryoEM and cryoET. "
    "Nat. Commun. 11, 5208. doi:10.1038/s41467-020-18952-1",
    "cappe2009": "Cappé & Moulines (2009) On-line expectation–maximization algorithm for latent data models. "
    "J. R. Stat. Soc. B 71, 593–613. doi:10.1111/j.1467-9868.2009.00698.x",
    "cardone2013": "Cardone, Heymann & Steven (2013) One number does not fit all: mapping local variations in resolution in cryo-EM reconstructions. "
    "J. Struct. Biol. 184, 226–236. doi:10.1016/j.jsb.2013.08.002",
    "chen2013": "Chen et al. (2013) High-resolution noise substitution to measure overfitting and validate resolution in 3D structure "
    "determination by single particle electron cryomicroscopy. Ultramicroscopy 135, 24–35. doi:10.1016/j.ultramic.2013.06.004",
    "grant2015": "Grant & Grigorieff (2015) Measuring the optimal exposure for single particle cryo-EM using a 2.6 Å reconstruction of rotavirus VP6. "
    "eLife 4, e06980. doi:10.7554/eLife.06980",
    "guo2020": "Guo et al. (2020) Electron-event representation data enable efficient cryoEM file storage with full preservation of spatial and "
    "temporal resolution. IUCrJ 7, 860–869. doi:10.1107/S205225252000929X",
    "lucas2021": "Lucas et al. (2021) Locating macromolecular assemblies in cells by 2D template matching with cisTEM. "
    "eLife 10, e68946. doi:10.7554/eLife.68946",
    "molder2021": "Mölder et al. (2021) Sustainable data analysis with Snakemake. F1000Research 10, 33. doi:10.12688/f1000research.29032.2",
    "nakane2018": "Nakane, Kimanius, Lindahl & Scheres (2018) Characterisation of molecular motions in cryo-EM single-particle data by multi-body "
    "refinement in RELION. eLife 7, e36861. doi:10.7554/eLife.36861",
    "punjani2017": "Punjani, Rubinstein, Fleet & Brubaker (2017) cryoSPARC: algorithms for rapid unsupervised cryo-EM structure determination. "
    "Nat. Methods 14, 290–296. doi:10.1038/nmeth.4169",
    "punjani2020": "Punjani, Zhang & Fleet (2020) Non-uniform refinement: adaptive regularization improves single-particle cryo-EM reconstruction. "
    "Nat. Methods 17, 1214–1221. doi:10.1038/s41592-020-00990-8",
    "rohou2015": "Rohou & Grigorieff (2015) CTFFIND4: fast and accurate defocus estimation from electron micrographs. "
    "J. Struct. Biol. 192, 216–221. doi:10.1016/j.jsb.2015.08.008",
    "roseman2003": "Roseman (2003) Particle finding in electron micrographs using a fast local correlation algorithm. "
    "Ultramicroscopy 94, 225–236. doi:10.1016/S0304-3991(02)00333-9",
    "rosenthal2003": "Rosenthal & Henderson (2003) Optimal determination of particle orientation, absolute hand, and contrast loss in single-particle "
    "electron cryomicroscopy. J. Mol. Biol. 333, 721–745. doi:10.1016/j.jmb.2003.07.013",
    "rubinstein2015": "Rubinstein & Brubaker (2015) Alignment of cryo-EM movies of individual particles by optimization of image translations. "
    "J. Struct. Biol. 192, 188–195. doi:10.1016/j.jsb.2015.08.007",
    "sanchez2021": "Sanchez-Garcia et al. (2021) DeepEMhancer: a deep learning solution for cryo-EM volume post-processing. "
    "Commun. Biol. 4, 874. doi:10.1038/s42003-021-02399-1",
    "scheres2005": "Scheres et al. (2005) Maximum-likelihood multi-reference refinement for electron microscopy images. "
    "J. Mol. Biol. 348, 139–149. doi:10.1016/j.jmb.2005.02.031",
    "scheres2012": "Scheres (2012) RELION: implementation of a Bayesian approach to cryo-EM structure determination. "
    "J. Struct. Biol. 180, 519–530. doi:10.1016/j.jsb.2012.09.006",
    "scheres_chen2012": "Scheres & Chen (2012) Prevention of overfitting in cryo-EM structure determination. "
    "Nat. Methods 9, 853–854. doi:10.1038/nmeth.2115",
    "tan2017": "Tan et al. (2017) Addressing preferred specimen orientation in single-particle cryo-EM through tilting. "
    "Nat. Methods 14, 793–796. doi:10.1038/nmeth.4347",
    "wagner2019": "Wagner et al. (2019) SPHIRE-crYOLO is a fast and accurate fully automated particle picker for cryo-EM. "
    "Commun. Biol. 2, 218. doi:10.1038/s42003-019-0437-z",
    "zhang2016": "Zhang (2016) Gctf: real-time CTF determination and correction. J. Struct. Biol. 193, 1–12. doi:10.1016/j.jsb.2015.11.003",
    "zhao2014": "Zhao & Singer (2014) Rotationally invariant image representation for viewing direction classification in cryo-EM. "
    "J. Struct. Biol. 186, 153–166. doi:10.1016/j.jsb.2014.03.003",
    "zheng2017": "Zheng et al. (2017) MotionCor2: anisotropic correction of beam-induced motion for improved cryo-electron microscopy. "
    "Nat. Methods 14, 331–332. doi:10.1038/nmeth.4193",
    "zivanov2018": "Zivanov et al. (2018) New tools for automated high-resolution cryo-EM structure determination in RELION-3. "
    "eLife 7, e42166. doi:10.7554/eLife.42166",
    "zivanov2019": "Zivanov, Nakane & Scheres (2019) A Bayesian approach to beam-induced motion correction in cryo-EM single-particle analysis. "
    "IUCrJ 6, 5–17. doi:10.1107/S205225251801463X",
    "zivanov2020": "Zivanov, Nakane & Scheres (2020) Estimation of high-order aberrations and anisotropic magnification from cryo-EM data sets in "
    "RELION-3.1. IUCrJ 7, 253–267. doi:10.1107/S2052252520000081",
}  # fmt: skip
