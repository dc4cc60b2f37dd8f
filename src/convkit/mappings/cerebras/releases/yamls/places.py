"""Where the fields of a yaml of 2.2 lie in the trainer of 2.3.

Facts: ModelZoo 2.10.0, ``trainer/utils.py``, ``trainer/callbacks`` and ``trainer/extensions``.
"""

from __future__ import annotations

#: path below trainer.init, path until 2.2
INIT: tuple[tuple[str, str], ...] = (
    ("model_dir", "runconfig.model_dir"),
    ("seed", "runconfig.seed"),
    ("backend.backend_type", "runconfig.target_device"),
    *((f"backend.{name}", f"runconfig.{name}") for name in (
        "compile_dir", "compile_only", "validate_only", "enable_distributed", "main_process_id", "dist_backend",
        "init_method", "sync_batchnorm",
    )),
    ("backend.cluster_config.max_wgt_servers", "runconfig.num_wgt_servers"),
    ("backend.cluster_config.max_act_per_csx", "runconfig.num_act_servers"),
    *((f"backend.cluster_config.{name}", f"runconfig.{name}") for name in (
        "num_csx", "mgmt_address", "mgmt_namespace", "credentials_path", "mount_dirs", "python_paths",
        "num_workers_per_csx", "cbcore_image", "job_labels", "job_priority", "job_time_sec", "disable_version_check",
    )),
    ("precision.enabled", "model.mixed_precision"),
    ("precision.fp16_type", "model.fp16_type"),
    ("precision.precision_opt_level", "runconfig.precision_opt_level"),
    *((f"precision.{name}", f"optimizer.{name}") for name in (
        "loss_scaling_factor", "initial_loss_scale", "steps_per_increase", "min_loss_scale", "max_loss_scale",
        "max_gradient_norm", "max_gradient_value",
    )),
    *((f"loop.{name}", f"runconfig.{name}") for name in (
        "num_steps", "max_steps", "num_epochs", "steps_per_epoch", "eval_frequency", "eval_steps",
    )),
    ("loop.grad_accum_steps", "optimizer.grad_accum_steps"),
    ("checkpoint.steps", "runconfig.checkpoint_steps"),
    *((f"checkpoint.{name}", f"runconfig.{name}") for name in (
        "disable_strict_checkpoint_loading", "autoload_last_checkpoint", "save_initial_checkpoint",
    )),
    ("logging.log_level", "runconfig.logging"),
    *((f"logging.{name}", f"runconfig.{name}") for name in ("log_steps", "wsc_log_level", "enable_act_frequency")),
)  # fmt: skip

#: the size of a micro batch, which is a flag for the time of training, and one for that of validation
MICRO_BATCH = "csx.performance.micro_batch_size"

#: a callback, its argument ("": the callback is there or not; "*": all of them), and the path until 2.2
CALLBACKS: tuple[tuple[str, str, str], ...] = (
    ("GlobalFlags", "csx.performance.transfer_processes", "runconfig.transfer_processes"),
    *(("GlobalFlags", f"csx.debug.{name}", f"runconfig.{name}") for name in (
        "ini", "debug_args", "retrace_every_iteration", "lazy_initialization", "log_initialization", "drop_data",
        "fabric_type_blacklist", "compile_crd_memory_gi", "execute_crd_memory_gi", "wrk_memory_gi", "act_memory_gi",
        "cmd_memory_gi", "wgt_memory_gi", "chf_memory_gi",
    )),
    ("ScopedTrainFlags", MICRO_BATCH, "train_input.micro_batch_size"),
    ("ScopedValidateFlags", MICRO_BATCH, "eval_input.micro_batch_size"),
    ("DebugArgsPath", "debug_args_path", "runconfig.debug_args_path"),
    ("Lora", "lora_params", "model.lora_params"),
    ("LogInputSummaries", "", "runconfig.log_input_summaries"),
    ("CheckLoss", "", "runconfig.check_loss_values"),
    ("ComputeNorm", "", "optimizer.log_summaries"),
    ("LoadCheckpointStates", "load_checkpoint_states", "runconfig.load_checkpoint_states"),
    ("KeepNCheckpoints", "n", "runconfig.max_checkpoints"),
    ("LogSparsity", "", "sparsity.add_summaries"),
    ("WeightCompression", "compressions", "model.compression"),
    ("SelectiveGrad", "selective_grads", "model.selective_grad"),
    ("Listener", "listeners", "runconfig.experimental.listeners"),
    ("OpProfiler", "*", "runconfig.op_profiler_config"),
    ("DumpActivations", "", "runconfig.dump_activations"),
    ("HFCacheDir", "cache_dir", "runconfig.hf_cache_dir"),
)  # fmt: skip

LOGGERS: tuple[tuple[str, str, str], ...] = (
    ("TensorBoardLogger", "summary_dir", "runconfig.summary_dir"),
    ("TensorBoardLogger", "legacy_event_dirs", "runconfig.legacy_event_dirs"),
    *(("WandbLogger", name, f"wandb.{name}") for name in (
        "project", "group", "run_id", "run_name", "job_type", "tags", "resume", "entity",
    )),
)  # fmt: skip

_BOTH = ("tasks", "limit", "max_tokens", "temperature", "top_k", "top_p")
#: an evaluation's callback, the section of its arguments, and their names, which stand in runconfig until 2.2
ELEUTHER = ("EleutherEvalHarness", "eeh_args", (
    *_BOTH, "num_fewshot", "output_path", "use_cache", "cache_requests", "check_integrity", "write_out",
    "log_samples", "system_instruction", "apply_chat_template", "fewshot_as_multiturn", "show_config", "include_path",
    "predict_only", "trust_remote_code",
))  # fmt: skip
BIGCODE = ("BigCodeEvalHarness", "bigcode_args", (
    *_BOTH, "prefix", "n_samples", "instruction_tokens", "limit_start", "save_every_k_tasks",
    "load_generations_path", "load_data_path", "metric_output_path", "load_generations_intermediate_paths",
    "save_generations_path", "save_references_path", "prompt", "check_references",
))  # fmt: skip
HARNESSES = (ELEUTHER, BIGCODE)
#: what such a callback has beside them
KEEPS_DATA = "keep_data_dir"
