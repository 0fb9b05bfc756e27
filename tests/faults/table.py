"""What a run must survive: 56 faults by number, each with the tests that hold it (from `tests/`, file::function)."""

FAULTS, INPUT = "faults/test_faults.py", "faults/test_bad_input.py"
RESUME, CHECKPOINT = "training/test_resume.py", "training/test_checkpoint.py"
WORKDIR, LOOP, STEP = "training/test_workdir.py", "training/test_loop.py", "training/test_step.py"
PARALLEL, PROCESSES, LOADER = "training/test_parallel.py", "training/test_processes.py", "data/test_loader.py"

TABLE = {
    1: (
        "A run that is killed again and again ends with the bits and the metrics of one left alone.",
        f"{RESUME}::test_killed_again_and_again",
    ),
    2: (
        "Twenty kills while large states are being written never leave a folder without a whole step.",
        f"{FAULTS}::test_killed_twenty_times_while_saving",
    ),
    3: (
        "A SIGTERM saves the step the run is at, and the next start begins right there.",
        f"{RESUME}::test_asked_to_stop",
    ),
    4: (
        "Whoever asks twice does not wait for a save, nor for what is being compiled.",
        f"{RESUME}::test_killed_again_and_again",
        f"{RESUME}::test_asked_twice_it_does_not_finish_what_it_is_at",
    ),
    5: ("Ctrl-C is an orderly end, without a traceback.", f"{RESUME}::test_asked_to_stop"),
    6: (
        "A SIGTERM before the first step is compiled is answered behind that step.",
        f"{FAULTS}::test_a_signal_while_the_first_step_is_compiled",
    ),
    7: (
        "The last step is saved although no interval falls on it.",
        f"{LOOP}::test_a_checkpoint_between_two_intervals_is_not_forgotten",
        f"{RESUME}::test_a_run_says_each_step_once_and_saves_the_last",
    ),
    8: (
        "A run that is done says so when it is started again, and touches no file.",
        f"{RESUME}::test_a_finished_run_is_left_alone",
    ),
    9: (
        "With more steps in its config, a run that was done goes on behind its last one.",
        f"{RESUME}::test_more_steps_go_on_where_it_ended",
    ),
    10: (
        "One wrong bit in the newest arrays sets that step aside and costs the way from the one before.",
        f"{FAULTS}::test_what_is_found_in_the_folder_changes_no_bit",
        f"{CHECKPOINT}::test_a_flipped_bit_is_never_restored",
        f"{RESUME}::test_a_damaged_checkpoint_costs_only_time",
    ),
    11: (
        "So do arrays that were cut off or lost.",
        f"{FAULTS}::test_what_is_found_in_the_folder_changes_no_bit",
        f"{CHECKPOINT}::test_a_damaged_file_is_set_aside",
    ),
    12: (
        "So does damage to any of the files that describe them.",
        f"{FAULTS}::test_what_is_found_in_the_folder_changes_no_bit",
        f"{CHECKPOINT}::test_a_damaged_file_is_set_aside",
        f"{CHECKPOINT}::test_a_changed_number_in_the_metadata_is_seen",
    ),
    13: (
        "An empty folder with a large number for a name is no checkpoint.",
        f"{FAULTS}::test_what_is_found_in_the_folder_changes_no_bit",
        f"{CHECKPOINT}::test_what_is_no_checkpoint_is_passed_over",
    ),
    14: (
        "Halves of saves are cleared away; copies and stray files are passed over.",
        f"{FAULTS}::test_what_is_found_in_the_folder_changes_no_bit",
        f"{CHECKPOINT}::test_what_is_no_checkpoint_is_passed_over",
    ),
    15: (
        "Where every checkpoint is damaged, nothing begins anew unless it is told to.",
        f"{RESUME}::test_when_all_checkpoints_are_damaged_it_does_not_begin_anew",
    ),
    16: (
        "A checkpoint of a model of another size is refused, with both shapes.",
        f"{RESUME}::test_another_model_is_refused",
        f"{CHECKPOINT}::test_of_many_differences_five_are_shown",
    ),
    17: ("So is one of another optimiser.", f"{RESUME}::test_another_model_is_refused"),
    18: (
        "So is one whose parameters have another dtype: nothing is cast.",
        f"{FAULTS}::test_parameters_of_another_dtype_are_not_cast",
        f"{CHECKPOINT}::test_another_model_is_told_apart_from_damage",
    ),
    19: ("Another learning rate is taken, told, and written down.", f"{RESUME}::test_more_steps_go_on_where_it_ended"),
    20: (
        "Other data, or another order of them, are refused by name.",
        f"{RESUME}::test_other_data_are_refused",
        f"{RESUME}::test_data_that_changed_under_the_same_config_are_refused",
    ),
    21: (
        "Worker processes may come and go between two starts.",
        f"{FAULTS}::test_workers_may_change_between_starts",
        f"{LOADER}::test_workers_change_nothing_and_leave",
    ),
    22: (
        "A state saved on many devices goes on on fewer, and the other way round.",
        f"{PARALLEL}::test_all_ways_give_the_losses_of_one_device",
    ),
    23: (
        "A state saved by two processes goes on in any number of them.",
        f"{PROCESSES}::test_a_checkpoint_of_two_processes_goes_on_with_another_number",
    ),
    24: (
        "The second run in a folder is told who holds it, and the first does not notice.",
        f"{RESUME}::test_two_runs_at_once",
        f"{WORKDIR}::test_a_second_run_is_told_who_holds_the_folder",
    ),
    25: (
        "A lock whose holder is dead holds nobody up.",
        f"{FAULTS}::test_what_is_found_in_the_folder_changes_no_bit",
        f"{RESUME}::test_killed_again_and_again",
    ),
    26: (
        "A disk that fills up during a save ends the run with a sentence; with room again it goes on.",
        f"{FAULTS}::test_a_full_disk_costs_only_time",
        f"{FAULTS}::test_a_full_disk_is_told_in_the_last_line",
        f"{FAULTS}::test_files_that_may_not_grow_are_a_full_disk",
    ),
    27: (
        "A folder that cannot be written is refused before anything is compiled; one that is missing is made.",
        f"{FAULTS}::test_a_folder_that_cannot_be_written_is_refused_before_anything_is_built",
        f"{INPUT}::test_a_workdir_that_cannot_be",
        f"{WORKDIR}::test_folders_above_are_made",
    ),
    28: (
        "A last save that fails beside everything else still ends the run with an error.",
        f"{FAULTS}::test_a_disk_that_turns_read_only_is_never_success",
        f"{FAULTS}::test_a_save_that_is_refused_is_never_success",
    ),
    29: (
        "When one process of several is killed, the others end, and all can be started again.",
        f"{PROCESSES}::test_when_one_process_is_lost_the_other_ends_and_both_resume",
    ),
    30: ("So when one of them freezes.", f"{PROCESSES}::test_when_one_process_is_lost_the_other_ends_and_both_resume"),
    31: (
        "A signal to one process ends all of them behind the same step.",
        f"{PROCESSES}::test_a_signal_to_one_process_ends_both_behind_the_same_step",
    ),
    32: ("A process that never comes is missed by name.", f"{PROCESSES}::test_who_never_comes_is_missed"),
    33: (
        "Processes with different configs stop before the first step.",
        f"{PROCESSES}::test_processes_with_different_configs_are_stopped",
    ),
    34: (
        "One poisoned batch is one skipped step.",
        f"{FAULTS}::test_one_poisoned_batch_costs_one_step",
        f"{STEP}::test_a_poisoned_batch_changes_nothing_but_the_counters",
    ),
    35: (
        "A run that cannot recover ends under every policy, and what it leaves is finite.",
        f"{FAULTS}::test_a_hopeless_run_ends_with_finite_parameters",
        f"{FAULTS}::test_parameters_that_are_not_finite_are_not_saved",
    ),
    36: (
        "A single huge gradient is thrown away where spikes are looked for.",
        f"{FAULTS}::test_a_spike_is_skipped",
        f"{STEP}::test_the_mean_of_norms_is_that_of_a_loop",
    ),
    37: (
        "Bad batches in a row take the run back, and are then passed over.",
        f"{FAULTS}::test_bad_batches_in_a_row_are_passed_over",
        f"{FAULTS}::test_a_run_that_rolled_back_resumes_to_the_same_bits",
    ),
    38: (
        "A validation metric that is no number is never the best.",
        f"{LOOP}::test_patience_ends_a_run_that_does_not_get_better",
    ),
    39: ("Token ids outside the vocabulary are named before the step.", f"{INPUT}::test_a_bad_record_is_named"),
    40: ("So are labels outside the classes.", f"{INPUT}::test_a_bad_record_is_named"),
    41: (
        "What is too long is refused or cut, as asked for, and costs no further program.",
        f"{INPUT}::test_a_bad_record_is_named",
        f"{INPUT}::test_one_compilation_for_each_bucket",
    ),
    42: (
        "Too few records are counted, and nothing hangs.",
        f"{INPUT}::test_too_few_records",
        f"{LOADER}::test_a_source_that_hangs_is_given_up",
    ),
    43: (
        "Broken text and tables are named with the line or the offset.",
        f"{INPUT}::test_a_bad_text_file_is_named_with_its_absolute_path",
        f"{INPUT}::test_a_bad_record_in_a_table_is_named_with_its_line",
    ),
    44: (
        "Files that are missing are named with their absolute path.",
        f"{INPUT}::test_a_bad_text_file_is_named_with_its_absolute_path",
        f"{INPUT}::test_data_that_are_not_there_are_named_with_the_variable",
    ),
    45: (
        "A source that raises, or a worker that dies, ends the run with its record or its code.",
        f"{INPUT}::test_a_bad_record_in_the_middle_of_a_run_ends_it",
        f"{LOADER}::test_a_run_whose_worker_is_killed_ends_with_a_sentence",
    ),
    46: (
        "Misspelt keys and wrong types in a config are all told at once.",
        f"{INPUT}::test_a_wrong_config_is_refused",
        f"{INPUT}::test_all_of_them_at_once",
    ),
    47: (
        "So are numbers out of range and names that do not exist.",
        f"{INPUT}::test_a_wrong_config_is_refused",
        f"{INPUT}::test_heads_that_do_not_divide",
    ),
    48: (
        "A batch that the devices do not divide is refused with both numbers.",
        f"{INPUT}::test_a_batch_that_the_devices_do_not_divide",
        f"{PARALLEL}::test_a_batch_that_eight_devices_do_not_divide_is_refused",
    ),
    49: ("pmap with a model that is cut is refused.", f"{INPUT}::test_pmap_is_data_parallel_only"),
    50: (
        "All ways over eight devices give the same losses, and read each other's checkpoints.",
        f"{PARALLEL}::test_all_ways_give_the_losses_of_one_device",
    ),
    51: (
        "A model too big for the memory is told with the bytes, the batch and what to do.",
        f"{FAULTS}::test_a_model_too_big_is_told_with_what_to_do",
    ),
    52: (
        "There are no more programs than buckets, and more of them are told.",
        f"{INPUT}::test_one_compilation_for_each_bucket",
        f"{FAULTS}::test_more_programs_than_buckets_are_told",
    ),
    53: (
        "An error in a user's code shows the user's file, and the save under way is finished first.",
        f"{FAULTS}::test_an_error_in_a_users_model_points_to_the_users_file",
    ),
    54: (
        "A line of metrics that was cut off is mended.",
        f"{RESUME}::test_killed_again_and_again",
        f"{WORKDIR}::test_a_torn_last_line_is_dropped",
    ),
    55: ("Workers end with a trainer that was killed.", f"{LOADER}::test_workers_end_with_a_killed_parent"),
    56: (
        "A batch without a token teaches nothing and harms nothing.",
        f"{FAULTS}::test_an_empty_batch_teaches_nothing",
        f"{STEP}::test_a_batch_without_a_valid_token_teaches_nothing",
    ),
    60: (
        "In half precision, the gradient of every parameter over a whole batch is within 2 % of that in float32.",
        "test_half_precision.py::test_nothing_is_added_up_over_rows_in_half_precision",
        "test_half_precision.py::test_gradients_of_many_tokens_are_those_of_float32",
        "test_half_precision.py::test_gradients_of_a_whole_batch_are_those_of_float32",
        f"{STEP}::test_a_large_batch_in_float16_learns_what_float32_does",
        f"{LOOP}::test_the_advice_fits_the_cause",
    ),
    64: (
        "Weight decay and muon reach matrices alone, and each parameter says whether it is one.",
        "test_roles.py::test_every_parameter_has_a_role",
        "test_roles.py::test_what_a_mixer_calls_a_vector_neither_decays_nor_is_turned",
    ),
}
