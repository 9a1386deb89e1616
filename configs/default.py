"""Every field of a CADA run, once, with its unit and meaning.

Other config files start from `get_config()` here and state only what they change.
The values are those of full-size CADA (ViT-B/16 and BERT base on 224x224 images);
the recipe is the one the authors' code runs, see METHOD in the README.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """Returns the full-size configuration with every field present."""
    c = ConfigDict()
    c.seed = 0  # the only source of randomness: init, data order, augmentation, masks
    # What to start from, None for random weights: an exported model folder, a PyTorch .pth,
    # .safetensors or Hugging Face folder,
    # or "pretrained:NAME", which the package ships.
    c.init_from = placeholder(str)

    c.data = ConfigDict()
    c.data.name = "rstp"  # a builder in cada_jax/data/datasets
    c.data.variant = placeholder(str)  # builder config name, None for the builder's default
    c.data.data_dir = placeholder(str)  # prepared TFRecords; None: $CADA_DATA_DIR or ~/cada_data
    c.data.image_size = (224, 224)  # (height, width) in pixels
    c.data.max_length = 73  # tokens of a caption, [CLS] and [SEP] included
    c.data.captions = "all"  # of an image: "all", or "first2" as the released code
    c.data.vocab = placeholder(str)  # file or hub name; None: the vocabulary stored with the data
    c.data.tagger = "pattern"  # "pattern" (bundled with textblob) or "nltk" (needs its data)
    c.data.tag_unit = "word"  # what is tagged: "word", or "wordpiece" as the released code

    c.augment = ConfigDict()  # on the device, in this order
    c.augment.flip = 0.5  # probability of a horizontal flip
    c.augment.pad = 10  # zero pixels (before normalising) added on every side before the crop
    c.augment.erase = 0.5  # probability that one rectangle is erased
    c.augment.erase_area = (0.02, 0.4)  # fraction of the image, uniform
    c.augment.erase_ratio = (0.3, 3.3)  # height / width, log-uniform

    c.model = ConfigDict()
    c.model.image = ConfigDict()
    c.model.image.size = c.data.get_ref("image_size")
    c.model.image.patch = (16, 16)  # (height, width) in pixels
    c.model.image.stem = "patch"  # "patch": one linear map; "conv": small convolutions first
    c.model.image.width = 768
    c.model.image.depth = 12
    c.model.image.heads = 12
    c.model.image.mlp_dim = 3072
    c.model.image.drop_path = 0.0  # of the last block; grows linearly from 0 at the first
    c.model.text = ConfigDict()  # shared by text encoder, decoder and attribute decoder
    c.model.text.vocab_size = 30524  # BERT's 30522 + [DEC] + [ENC]
    c.model.text.stem = "embed"  # "embed": embeddings alone; "conv": each sees the two before it
    c.model.text.width = 768
    c.model.text.depth = 12
    c.model.text.heads = 12
    c.model.text.mlp_dim = 3072
    c.model.text.max_positions = 512
    c.model.text.dropout = 0.1  # on embeddings, attention weights and block outputs
    c.model.embed_dim = 256  # width of the shared image/text embedding
    c.model.tokens = ConfigDict({"pad": 0, "cls": 101, "sep": 102, "mask": 103})
    c.model.tokens.dec = 30522
    c.model.tokens.enc = 30523
    c.model.dtype = "float32"  # of activations: "float32" or "bfloat16"; parameters are float32
    # Computed again in the backward pass, for less memory: "off": nothing; "light": all of a layer
    # but its products with weights; "full": every layer.
    c.model.remat = "off"

    c.loss = ConfigDict()
    c.loss.scale = 50.0  # multiplies the cosine similarities of the global loss, a constant
    c.loss.global_weight = 1.0
    c.loss.atp_weight = 1.0  # 0 leaves the decoder passes out
    c.loss.ara_weight = 0.1  # 0 leaves the attribute decoder out

    c.atp = ConfigDict()  # association of text tokens to image patches
    c.atp.gate = "token"  # "token": a learned gate per text token; "off": no such parameters
    c.atp.negatives = "hardest"  # or "sampled", with probability softmax(cosine / temperature)
    c.atp.temperature = 0.07  # of "sampled"
    c.atp.groups = 2  # consecutive groups of tokens after position 0
    c.atp.group_pool = "valid"  # "all": means include [SEP] and padding, as the released code

    c.ara = ConfigDict()  # association of image regions to attribute phrases
    c.ara.masking = "phrase"  # "phrase": whole phrases; "token": single words' tokens
    c.ara.phrase_rate = 0.8  # probability that a phrase is masked
    c.ara.token_rate = 0.4  # probability that a token is masked
    c.ara.causal = True  # self-attention of the attribute decoder sees no later token

    c.optimizer = ConfigDict()
    c.optimizer.learning_rate = 1e-5  # at the peak
    c.optimizer.min_learning_rate = 0.0  # at the end of the cosine
    c.optimizer.warmup_steps = 0
    c.optimizer.schedule = "epoch"  # cosine stepped per "epoch" (released code) or per "step"
    c.optimizer.b1 = 0.9
    c.optimizer.b2 = 0.999
    c.optimizer.eps = 1e-8
    c.optimizer.weight_decay = 0.05
    c.optimizer.decay = "all"  # "all" parameters, or "matrices": neither biases nor norms
    c.optimizer.clip_norm = 0.0  # global gradient norm above which it is scaled down; 0: off

    c.train = ConfigDict()
    c.train.batch_size = 120  # image-caption pairs over all devices
    c.train.accumulation = 1  # chunks of a batch on a device: less memory, the same gradient
    c.train.epochs = 30
    c.train.datasets = ""  # sets mixed for training, as "cuhk,rstp"; empty: data.name alone
    c.train.max_steps = 0  # stop after so many steps in all; 0: train.epochs decides
    c.train.log_every = 50  # steps
    c.train.eval_every = 1  # epochs
    c.train.checkpoint_every = 500  # steps, besides one at every evaluation
    c.train.keep_checkpoints = 2  # newest ones kept, besides the best
    c.train.profile_start = -1  # step at which a profile begins; -1: never
    c.train.profile_steps = 5

    c.eval = ConfigDict()
    c.eval.batch_size = 128  # images, and texts, encoded at once over all devices
    c.eval.rerank_top_k = 128  # images of each text that the decoder scores; 0: stage one only
    c.eval.rerank_batch = 256  # longest texts whose tokens are decoded at once over all devices
    c.eval.select_on = "val"  # split that chooses the best checkpoint; "test" is for comparison
    c.eval.select_metric = "reranked/R1"
    c.eval.split = "test"  # scored at the end, and by --mode=eval
    # Sets that --mode=eval tests on, as "cuhk,icfg,rstp"; empty: data.name. NAME/VARIANT names one
    # prepared under other settings than data.variant.
    c.eval.datasets = ""
    c.eval.track_test = False  # also score test at every evaluation; its best is reported apart
    c.eval.image_to_text_top_k = 0  # captions of each image that the decoder scores at the end
    c.eval.save_queries = True  # write queries.jsonl: ranks and ten best images of every caption

    c.mesh = ConfigDict()  # devices along each axis; -1: all that remain
    c.mesh.data = -1
    c.mesh.fsdp = 1
    c.mesh.tensor = 1
    return c
