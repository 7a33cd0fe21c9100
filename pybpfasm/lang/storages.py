"""Values that live and end with a task, a file's inode or a cgroup; their key is i32."""

from pybpfasm.lang.kernel_structs import KernelStruct
from pybpfasm.lang.maps import K, LocalStorage, V, method, only_in_program
from pybpfasm.uapi import Helper, MapType

_CREATE = 1


class TaskStorage(LocalStorage[K, V]):
    """BPF_MAP_TYPE_TASK_STORAGE (Linux 5.11), for programs that are attached by BTF."""

    type = MapType.TASK_STORAGE

    @method(Helper.TASK_STORAGE_GET, "map", "task", 0, 0, gives="value")
    def get(self, task: KernelStruct) -> V | None:
        """The task's value, in place; None if it has none."""
        only_in_program("get")

    @method(Helper.TASK_STORAGE_GET, "map", "task", 0, _CREATE, gives="value")
    def get_or_create(self, task: KernelStruct) -> V | None:
        """The task's value, made of zeros if it had none; None if there is no memory for it."""
        only_in_program("get_or_create")

    @method(Helper.TASK_STORAGE_DELETE, "map", "task", gives="signed")
    def delete(self, task: KernelStruct) -> int:
        """Remove the task's value: 0, or -ENOENT."""
        only_in_program("delete")


class InodeStorage(LocalStorage[K, V]):
    """BPF_MAP_TYPE_INODE_STORAGE (Linux 5.10), for LSM programs."""

    type = MapType.INODE_STORAGE

    @method(Helper.INODE_STORAGE_GET, "map", "inode", 0, 0, gives="value")
    def get(self, inode: KernelStruct) -> V | None:
        """The inode's value, in place; None if it has none."""
        only_in_program("get")

    @method(Helper.INODE_STORAGE_GET, "map", "inode", 0, _CREATE, gives="value")
    def get_or_create(self, inode: KernelStruct) -> V | None:
        """The inode's value, made of zeros if it had none; None if there is no memory for it."""
        only_in_program("get_or_create")

    @method(Helper.INODE_STORAGE_DELETE, "map", "inode", gives="signed")
    def delete(self, inode: KernelStruct) -> int:
        """Remove the inode's value: 0, or -ENOENT."""
        only_in_program("delete")


class CgroupStorage(LocalStorage[K, V]):
    """BPF_MAP_TYPE_CGRP_STORAGE (Linux 6.2), for programs that are attached by BTF."""

    type = MapType.CGRP_STORAGE

    @method(Helper.CGRP_STORAGE_GET, "map", "cgroup", 0, 0, gives="value")
    def get(self, cgroup: KernelStruct) -> V | None:
        """The cgroup's value, in place; None if it has none."""
        only_in_program("get")

    @method(Helper.CGRP_STORAGE_GET, "map", "cgroup", 0, _CREATE, gives="value")
    def get_or_create(self, cgroup: KernelStruct) -> V | None:
        """The cgroup's value, made of zeros if it had none; None if there is no memory for it."""
        only_in_program("get_or_create")

    @method(Helper.CGRP_STORAGE_DELETE, "map", "cgroup", gives="signed")
    def delete(self, cgroup: KernelStruct) -> int:
        """Remove the cgroup's value: 0, or -ENOENT."""
        only_in_program("delete")
