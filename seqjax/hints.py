"""Suggests a key for an unknown word, by the field's usual words for our keys, else by similar spelling."""

import re
import shlex

from seqjax import lookup

# Key -> words for it. A key may be an option of commands (`--workdir`), or say which value to give it (`steps=STEPS`).
WORDS = {
    "seed": "seed random_seed",
    "data": "data dataset dataset_name source",
    "data.path": "path data_path file text_file input_file",
    "data.train": "train_file train_data",
    "data.validation": "validation_file val_file dev_file eval_file",
    "data.length": "length seq_len seq_length sequence_length max_length max_len max_seq_len max_seq_length block_size "
    "context_length context_size n_ctx n_positions max_position_embeddings",
    "data.tokenizer": "tokenizer tokenization",
    "data.held_out": "held_out leave_out test_speaker",
    "task.monitor": "monitor metric_for_best_model",
    "task.carry_state": "carry_state stateful tbptt truncated_bptt",
    "model": "model model_name model_type",
    "model.width": "width hidden hidden_size hidden_dim hidden_units units dim model_dim d_model n_embd embed_dim "
    "embedding_dim emb_dim embedding_size",
    "model.layers": "layers num_layers n_layers n_layer num_hidden_layers num_blocks depth",
    "model.expansion": "expansion expansion_factor mlp_ratio ffn_ratio mlp_expansion",
    "model.dropout": "dropout dropout_rate dropout_prob p_dropout hidden_dropout hidden_dropout_prob resid_pdrop",
    "model.norm": "norm norm_type",
    "model.mlp": "mlp mlp_type ffn ffn_type hidden_act activation_function",
    "task.head.pool": "pool pooling",
    "model.tie_embeddings": "tied tie_weights tie_embeddings tie_word_embeddings weight_tying",
    "model.dtype": "dtype precision compute_dtype param_dtype mixed_precision amp",
    "model.dtype=bfloat16": "bf16",
    "model.dtype=float16": "fp16",
    "model.embed.sample_rate": "sample_rate sampling_rate sr",
    "model.embed.window_length": "window_length win_length frame_length",
    "model.embed.hop_length": "hop_length hop hop_size frame_shift",
    "model.embed.fft_length": "fft_length n_fft fft_size",
    "model.embed.mel_filters": "mel_filters n_mels num_mels num_mel_bins",
    "model.embed.coefficients": "coefficients n_mfcc num_ceps numcep",
    "model.embed.deltas": "deltas delta delta_delta add_deltas",
    "model.embed.pre_emphasis": "pre_emphasis preemph",
    "model.embed.normalise": "normalise normalize cmn cmvn",
    "model.mixer": "mixer rnn_type cell_type layer_type architecture arch",
    "model.mixer.heads": "heads num_heads n_heads n_head num_attention_heads",
    "model.mixer.kv_heads": "kv_heads num_kv_heads n_kv_heads num_key_value_heads",
    "model.mixer.window": "window window_size sliding_window attention_window",
    "optim.name": "optimizer optimiser optimizer_name",
    "optim.learning_rate": "peak lr learning_rate base_lr init_lr initial_lr max_lr peak_lr peak_learning_rate",
    "optim.schedule": "schedule scheduler lr_schedule lr_scheduler lr_scheduler_type lr_decay_style",
    "optim.warmup_steps": "warmup warmup_steps num_warmup_steps lr_warmup_steps warmup_iters",
    "optim.warmup_steps=STEPS": "warmup_ratio warmup_epochs warmup_fraction",
    "optim.final_scale": "end end_scale final_scale min_lr_ratio",
    "optim.weight_decay": "decay weight_decay wd",
    "optim.clip_norm": "clip clip_norm clip_grad clip_grad_norm grad_clip grad_clip_norm gradient_clip "
    "gradient_clipping gradient_clip_val max_grad_norm global_clip_norm",
    "optim.ema_decay": "ema ema_decay ema_rate",
    "optim.groups=LIST": "groups param_groups parameter_groups freeze frozen freeze_layers freeze_embedding "
    "freeze_embeddings freeze_encoder trainable unfreeze gradual_unfreezing",
    "optim.groups.rate": "lr_mult lr_scale lr_factor lr_multiplier rate_mult",
    "optim.groups.decay": "decay_mult wd_mult weight_decay_mult",
    "optim.groups.from_step": "unfreeze_at unfreeze_step thaw thaw_at freeze_steps freeze_until",
    "optim.layer_decay": "layer_decay layerwise_decay llrd layer_lr_decay layerwise_lr_decay",
    "optim.options.b1": "b1 beta1 adam_beta1",
    "optim.options.b2": "b2 beta2 adam_beta2",
    "optim.options.eps": "eps epsilon adam_eps adam_epsilon",
    "optim.options.momentum": "momentum",
    "loader.batch_size": "batch batch_size bs global_batch_size train_batch_size per_device_train_batch_size",
    "loader.places": "batch_tokens max_tokens tokens_per_batch max_tokens_per_batch",
    "loader.too_long=truncate": "truncate truncation",
    "loader.num_workers": "workers num_workers n_workers dataloader_num_workers",
    "train.steps": "steps max_steps num_steps n_steps total_steps train_steps training_steps num_train_steps "
    "num_training_steps iters max_iters num_iterations iterations",
    "train.steps=STEPS": "epochs num_epochs n_epochs max_epochs num_train_epochs",
    "train.accumulation_steps": "accumulate accumulation accumulation_steps grad_accum grad_accum_steps "
    "grad_accumulation_steps gradient_accumulation gradient_accumulation_steps accumulate_grad_batches",
    "train.log_every": "log_every log_steps log_interval log_freq logging_steps log_every_n_steps",
    "train.eval_every": "eval_every eval_steps eval_interval eval_freq eval_frequency validate_every val_every",
    "train.checkpoint_every": "checkpoint_every checkpoint_steps checkpoint_interval ckpt_every save_every save_steps "
    "save_interval save_freq",
    "train.keep_checkpoints": "keep keep_checkpoints max_to_keep save_total_limit save_top_k",
    "train.patience": "patience early_stopping early_stopping_patience early_stop",
    "init.run": "pretrained pretrained_path finetune_from init_from init_checkpoint load_from",
    "--workdir": "output output_dir out_dir log_dir save_dir run_dir model_dir checkpoint_dir ckpt_dir",
}
SIZES = "vocab vocab_size vocabulary vocabulary_size n_vocab num_tokens num_classes n_classes num_labels input_size"
SIZED = " Sizes come from the data: leave it out."
COMPARED = {
    "optim.learning_rate": "learning_rates=LIST",
    "seed": "seeds=LIST",
}  # what a comparison sets for each of its runs


def plain(word: str) -> str:
    """The form of a word for lookups: `learning_rate`, `--learning-rate` and `learningRate` become the same."""
    return re.sub(r"[-_]", "", word).lower()


KEYS = {plain(word): key for key, words in WORDS.items() for word in words.split()}
FROM_DATA = set(map(plain, SIZES.split()))


def of_key(section: str, word: str, known) -> str:
    """Suggests what an unknown key of a section may mean. `known` are its keys. A sentence, or an empty string."""
    if plain(word) in FROM_DATA:
        return SIZED
    path = KEYS.get(plain(word), "")
    where, _, key = path.rpartition(".")
    if key.partition("=")[0] in known:
        return f" Did you mean {key!r}?"
    # These do not help: `heads` for a mixer without heads, and a key of a config for a comparison.
    elsewhere = section.split(".")[:2] != where.split(".") if section else path.partition(".")[0] in known
    if not path or not elsewhere:
        return lookup.nearest(word, known)
    return f" Did you mean {path!r}?"


def of_option(word: str, value: str, base: str) -> str:
    """Suggests what an unknown word of the command line may mean: `--config FILE`, `--config.KEY=VALUE` or an option.

    `base` comes before each key. A sentence, or an empty string.
    """
    if not word.startswith("-") and not value:
        return f" Did you mean --config {shlex.quote(word)}?" if re.search(r"\.(py|json)\b", word) else ""
    if plain(word) in FROM_DATA:
        return SIZED
    section, _, name = word.strip("-").rpartition(".")
    path = KEYS.get(plain(name), "")
    if section and path.rpartition(".")[2] in (name, ""):
        path = f"{section}.{name}"
    if not path:
        return ""
    if not path.startswith("--"):
        path = f"--config.{COMPARED.get(path, base + path) if base else path}"
    if "=" not in path:
        path += f"={shlex.quote(value) if value and not value.startswith('--') else 'VALUE'}"
    return f" Did you mean {path}?"
