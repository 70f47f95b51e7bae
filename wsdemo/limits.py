"""Every bound on what wsdemo takes in, with its unit and its reason."""

MAX_PICTURE_BYTES = 30 * 2**20
"""A photo of a current phone is 3-12 MB; more is not a portrait."""
MAX_PICTURE_PIXELS = 50_000_000
"""Decoded at 3 bytes a pixel this is 150 MB: a 48-megapixel phone photo still passes."""
MIN_PICTURE_SIDE = 16
"""Pixels. Below a quarter of the field's 64 there is nothing to fit."""
MAX_HEADER_BYTES = 24 * 2**20
"""A safetensors header: 100,000 tensors of an adapter's experts take 14 MB."""
MAX_METADATA_BYTES = 8 * 2**20
"""The free texts in it; those of trainers that list every caption's tags take under 1 MB."""
MAX_TENSORS = 100_000
"""Tensors in a file: one pair for each of 128 experts in 48 layers makes 36,864."""
MAX_SHARDS = 64
"""Files of one adapter; real ones have a few."""
MAX_INSTANCE_BYTES = 8 * 2**20
"""An instance file; the largest that Fit writes, mLoRA of rank 128, takes 0.7 MB."""
MAX_MLP_WIDTH = 128
"""Hidden width of an MLP, that of the shipped bases; its start takes seconds on two cores."""
MAX_RENDER_SIDE = 1024
"""Pixels a side of a rendered field: 1024² takes about 4 s on two cores."""
MIN_RENDER_SIDE = 16
MAX_SAMPLES = 64
"""Instances per request: 64 take about half a minute on two cores."""
MAX_SHAPES = 16
"""Shapes per request: their surfaces take about a second each."""
MAX_DIFFUSION_STEPS = 250
MAX_GUIDANCE = 8.0
MAX_TEMPERATURE = 1.5
MAX_FIT_SECONDS = 120.0
"""One visitor's fit on a shared machine."""
MAX_FIT_STEPS = 100_000
"""Of a fit whose length is given in steps: an hour or two."""
MAX_LORA_BYTES = 2 * 2**30
"""A LoRA file; the largest real ones, of rank 128 on FLUX, have 1.3 GB."""
MAX_CONFIG_BYTES = 2**20
"""adapter_config.json; real ones take a few kB."""
HUB_SECONDS = 10.0
"""How long the Hub may take to answer, and to send the next bytes."""
MAX_DOWNLOAD_SECONDS = 900.0
"""A download in all: 2 GB at 20 Mbit/s."""
MAX_DOWNLOADS_BYTES = 6 * 2**30
"""Downloads that are kept on disk; the oldest go first."""
MAX_PREDICTOR_BYTES = 512 * 2**20
"""A predictor: five models of the 50 million parameters that ``lol train`` allows one."""
KEPT_PREDICTORS = 2
"""Predictors of visitors that are kept open; of any other the file is read again when asked."""
MAX_MODEL_SIDE = 4096
"""The largest width or rank of a predictor's model that is opened."""
MAX_MODEL_LAYERS = 8
MAX_MODEL_PRODUCTS = 2**24
"""Numbers of all modules' products Ũ Ṽᵀ in such a model."""
MAX_ENSEMBLE = 32
"""Tasks of a predictor, and models of a task."""
MAX_BATCH = 200
"""LoRAs of one batch drop: each takes about a second."""
MAX_BATCH_BYTES = 8 * 2**30
"""Of one batch from the Hub: 200 LoRAs of 40 MB."""
MAX_CARD_BYTES = 2**20
"""A model card; those with a picture inside have some hundred kB."""
MAX_IMPORTED_FILES = 100_000
"""LoRAs of one imported collection: the largest published ones have 65,000."""
MAX_CLASSES = 1024
"""Of a column of labels: those of ImageNet are 1,000."""
MAX_LABELS_BYTES = 64 * 2**20
"""A table of labels: 100,000 LoRAs with 40 labels take about 20 MB."""
MAX_LISTING_BYTES = 2**25
"""Of what the Hub says about a repository; 100,000 files take about 25 MB."""
MAX_PICKLE_BYTES = 512 * 2**20
"""A pickled adapter; it is read whole."""
MAX_PICKLED_BYTES = 2 * 2**30
"""Of all its tensors together: a small pickle may expand to anything."""
MAX_PICKLE_SECONDS = 120
MAX_PICKLE_MEMORY_BYTES = 8 * 2**30
"""Address space of the process that opens it; torch alone maps some gigabytes."""
MAX_DISTANCES_BYTES = 256 * 2**20
"""Signed distances of meshes that are kept on disk for another fit: 600 meshes."""
MAX_CANDIDATES = 200
"""Files of a repository to choose from."""
MAX_RANK = 1024
"""Rank of an adapter; more is no low rank any more."""
MAX_EXPANDED_RANK = 256
"""Columns that a product of factors (LoHa, LoKr) or a full difference is written in."""
MAX_FACTOR_NUMBERS = 2**20
"""Numbers of such a module's U and V together, so also its sides: 4 MB."""
MAX_MODULE_NUMBERS = 2**26
"""Numbers of a module's tensors (64-bit ones count twice), or of a matrix that is built of them:
256 MB. The largest weight of FLUX has as many. Of its U and V half of it."""
MAX_LOHA_PRODUCTS = 2**34
"""Multiplications to build a LoHa's matrix, n m r: they take about two seconds."""
MAX_EXPANDED_NUMBERS = 2**29
"""Numbers of all factors of a file beyond those that it stores: 2 GB where they are kept."""
MAX_HELD_FACTORS = 512 * 2**20
"""Bytes of the factors of a LoRA that is kept at hand for what is done with it next; a larger one
is read again where its factors are needed."""
MAX_HELD_READINGS = 2**30
"""Bytes of all LoRAs that an app keeps at hand; the one looked at least recently goes first."""
MAX_WORKERS = 64
"""Processes of one command; more cores than that are a cluster."""
MAX_ROWS = 100_000
"""Rows of one answer: about 50 MB of JSON."""
MAX_LIBRARY_FILES = 1_000_000
"""LoRAs of a library: their sketches take 4 GB."""
MAX_EXACT_SIDE = 1024
"""Rows or columns of a matrix whose singular values are computed exactly: in about a second."""
MAX_SEED = 2**31 - 1
MAX_THREADS = 256
"""Of one calculation; what is gained by more than four is little."""
MAX_MESH_BYTES = 80 * 2**20
"""A mesh file; a scan of a million faces in binary PLY takes 20 MB."""
MAX_UNPACKED_BYTES = 64 * 2**20
"""What a zipped mesh (3MF) may unpack to: a million faces; a zip bomb promises far more."""
MAX_XML_TAGS = 1_500_000
"""Elements of a 3MF's XML: a million faces, which take about ten seconds and 1.5 GB to parse."""
MAX_MESH_PARTS = 20_000
"""Nodes of a scene, or places of its parts: reading so many takes some seconds."""
MAX_MESH_FACES = 4_000_000
"""Faces that are read at all, as often as a scene places them; more take a minute to parse."""
KEPT_MESH_FACES = 300_000
"""Faces that are kept; larger meshes are reduced, which is said. The field is far coarser."""
ORDINARY_NEAR_FACES = 250
"""Triangles whose size reaches a point, on average, that need no second look: winding numbers visit
each of them. Meshes of the collections have 20 to 220."""
MAX_NEAR_FACES = 2000
"""The same, beyond which a mesh is not even tried."""
MAX_JUDGING_SECONDS = 15.0
"""To find out whether a mesh is a solid; its fit then asks for ten times as many points."""
MIN_MESH_FACES = 4
"""A tetrahedron is the smallest solid."""
MESH_RESOLUTIONS = (32, 64, 96, 128, 192, 256)
"""Cells a side of marching cubes: 256 takes some seconds and 200,000 faces."""
MAX_PROFILE_BYTES = 16 * 2**20
"""An ICC profile, unpacked; those of printers have 3 MB."""
MAX_MEASURED = 200
"""Measured numbers in an instance file; ours have about a dozen."""
