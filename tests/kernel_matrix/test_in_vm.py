"""What is run on every kernel: the files and tests in in-vm.args, whole but for what has a reason here."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ARGUMENTS = Path(__file__).with_name("in-vm.args").read_text().splitlines()
DESELECT = "--deselect="

AGENT = (
    "what the agent makes of pods, labels and the room in its maps is no kernel's business, and pods start slowly there"
)
REPORT = "what is reported of a full map; that maps fill up on every kernel is seen with the SOCKHASH"
MANY = "that no entry is left is seen there with IPv4, whose entries are of the same form"
WAYS = "the same directions as with --splice both, one of them by TCP"
SLOW = "300,000 sends take minutes in an emulated machine; what stops them is the program's own count"
QUESTIONS = "which answer is for which question is the program's own count and the clock, on no kernel another's"
RESOLVER = "the emulated machine has no resolv.conf to be replaced; the hooks are those of the other questions"
HAPROXY = "on 7.2, on a busy machine, haproxy saw the end of some streams too early: docs/splice.md, not explained yet"
RULE = "an expression each: what becomes of each operation on a kernel is in its random programs and statements"
RANDOM = "two sets of random programs (0 and 4) for each kernel's JIT; all forty are run on the running kernel"

# As --deselect takes them: what a test's name begins with.
LEFT_OUT = {
    "tests/merbridge/test_dns.py::test_a_lost_answer_is_not_the_next_ones": QUESTIONS,
    "tests/merbridge/test_dns.py::test_more_questions_than_are_kept": QUESTIONS,
    "tests/merbridge/test_dns.py::test_a_resolver": RESOLVER,
    "tests/merbridge/test_dns.py::test_fail_open": AGENT,
    "tests/merbridge/test_dns.py::test_switched_off": AGENT,
    "tests/merbridge/test_dns.py::test_the_annotation_counts_while_the_pod_runs": AGENT,
    "tests/merbridge/test_dns.py::test_without_an_address_of_the_family_it_is_refused": AGENT,
    "tests/merbridge/test_dns.py::test_without_ztunnel_it_is_refused": AGENT,
    "tests/merbridge/test_inbound.py::test_a_new_ztunnel_takes_over": AGENT,
    "tests/merbridge/test_inbound.py::test_a_pod_can_ask_to_be_left_alone": AGENT,
    "tests/merbridge/test_inbound.py::test_a_pod_in_a_new_namespace_is_captured": AGENT,
    "tests/merbridge/test_inbound.py::test_pods_without_a_device_on_the_host_are_told": AGENT,
    "tests/merbridge/test_inbound.py::test_switched_off": AGENT,
    "tests/merbridge/test_inbound.py::test_what_is_removed_by_hand_comes_back": AGENT,
    "tests/merbridge/test_inbound.py::test_without_ztunnel_nothing_arrives": AGENT,
    "tests/merbridge/test_host_to_pod.py::test_a_pod_can_ask_to_be_left_alone": AGENT,
    "tests/merbridge/test_host_to_pod.py::test_fail_open_lets_connections_through": AGENT,
    "tests/merbridge/test_interception.py::test_new_pod_is_intercepted_once_the_source_names_it": AGENT,
    "tests/merbridge/test_interception.py::test_pod_on_the_host_network_is_not_intercepted": AGENT,
    "tests/merbridge/test_interception.py::test_ztunnels_own_connections_are_not_intercepted": AGENT,
    "tests/merbridge/test_interception.py::test_ztunnel_with_a_new_address_takes_over": AGENT,
    "tests/merbridge/test_interception.py::test_pod_label_takes_effect_on_a_running_pod": AGENT,
    "tests/merbridge/test_interception.py::test_namespace_label_takes_effect_on_running_pods": AGENT,
    "tests/merbridge/test_interception.py::test_full_map_of_pods_is_told_and_enrolled_pods_come_first": AGENT,
    "tests/merbridge/test_interception.py::test_pod_enrolled_later_finds_room_in_a_full_map": AGENT,
    "tests/merbridge/test_ipv6.py::test_fail_open_is_for_no_ztunnel_at_all": AGENT,
    "tests/merbridge/test_ipv6.py::test_two_thousand_connections_leave_nothing_behind": MANY,
    "tests/merbridge/test_original_dst.py::test_haproxy_relays_to_the_original_destination": HAPROXY,
    "tests/merbridge/test_original_dst.py::test_connections_without_room_fail_closed_and_are_told": REPORT,
    "tests/merbridge/test_splice.py::test_every_way_of_sending_arrives_whole_in_both_directions_at_once[to": WAYS,
    "tests/merbridge/test_splice.py::test_short_writes_do_not_fill_memory": SLOW,
    "tests/pybpfasm/test_semantics.py::test_rule": RULE,
    "tests/pybpfasm/test_semantics.py::test_random_programs[1": RANDOM,
    "tests/pybpfasm/test_semantics.py::test_random_programs[2": RANDOM,
    "tests/pybpfasm/test_semantics.py::test_random_programs[3": RANDOM,
    **{f"tests/pybpfasm/test_semantics.py::test_random_programs[{first}": RANDOM for first in range(5, 10)},
}

# With `--splice off` bytes go as they would without us: what is tried there is the test itself, once, where it is run.
# Of the suites over all kinds of links and types of maps those are run that the running kernel may not have.
KEYWORD = [
    "-k",
    (
        "not [off and (not (test_link_conformance or test_attach_command or test_map_conformance)"
        " or kprobe or kretprobe or fentry or fexit or fmod_ret or LSM or netkit or RHASH or INSN_ARRAY)"
    ),
]

# Files of tests that start the agent, and are not run on other kernels at all.
AGENTS_OWN = {
    "test_agent_life.py": "adoption, replacement and cleanup of pins, in dozens of starts of the agent: too slow there",
    "test_agent_kubernetes.py": "what the agent makes of the API's events is no kernel's business",
    "test_bad_input.py": "what the agent and its commands say of input and pins that each test spoils",
    "test_chaos.py": "what the agent makes of faults; each of them is tried on its own",
    "test_deploy.py": "what the manifests ask for; capabilities are checked by the same code on every kernel",
    "test_doctor.py": "what `doctor` says of states that each test makes up, most of them the cluster's",
    "test_drift.py": "what the agent does about pins, programs and entries that each test takes away by hand",
    "test_hostile_pod.py": "how a pod tries to get round what test_interception, test_inbound and test_original_dst "
    "see working on every kernel",
    "test_long_run.py": "a long run; that nothing is left is seen there by test_original_dst",
    "test_reload.py": "when the agent takes other settings over; maps of another size are put in place as new ones are",
    "test_socket_kinds.py": "other ways into the same hooks of connections",
    "test_start_faults.py": "what the agent says of broken surroundings, made up by each test",
    "test_trace.py": "what is shown of connections by programs that test_programs_load loads on every kernel",
    "test_status_server.py": "what probes and scrapes get of a report is no kernel's business",
    "test_status.py": "what `status` says of states that each test makes up; that it finds a kernel's datapath "
    "healthy is seen in test_without_ztunnel_connections_are_refused_at_once",
}


def test_what_is_left_out_has_a_reason() -> None:
    """And a reason is for something that is left out."""
    deselected = [each.removeprefix(DESELECT) for each in ARGUMENTS if each.startswith(DESELECT)]
    assert sorted(deselected) == sorted(LEFT_OUT)
    assert [each for each in ARGUMENTS if not each.startswith((DESELECT, "tests/"))] == KEYWORD


def test_each_name_that_is_left_out_is_a_test() -> None:
    """A test that was renamed would be run again, and its reason would stay."""
    for name in LEFT_OUT:
        file, _, rest = name.partition("::")
        assert f"\ndef {rest.partition('[')[0]}" in (TESTS.parent / file).read_text(), name


def test_each_test_with_a_datapath_is_run_or_left_out() -> None:
    """Its file is among the arguments, and so whole but for the above, or has a reason of its own."""
    with_datapath = {path.name for path in TESTS.glob("merbridge/test_*.py") if "cluster: Cluster" in path.read_text()}
    run = {name for name in with_datapath if f"tests/merbridge/{name}" in ARGUMENTS}
    assert run == {
        "test_dns.py",
        "test_first_connect.py",
        "test_host_to_pod.py",
        "test_inbound.py",
        "test_interception.py",
        "test_ipv6.py",
        "test_original_dst.py",
        "test_splice.py",
    }
    assert with_datapath - run == set(AGENTS_OWN)
