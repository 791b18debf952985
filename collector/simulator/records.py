"""What the inventory operations show of each object of the account, in the services' spelling."""

from __future__ import annotations

from typing import Any

import msgspec

from collector.catalogue.products.eas import EasResourceRecord, ServiceRecord
from collector.catalogue.products.eflo_controller import ClusterRecord, NodeRecord
from collector.catalogue.products.pai_dlc import JobRecord
from collector.catalogue.products.pai_dsw import InstanceRecord
from collector.catalogue.products.pai_studio import ResourceGroupRecord
from collector.simulator.account import Account, Cluster, Instance, Job, Service, ServingResource
from collector.simulator.hashing import key_of
from collector.simulator.nodes import Node
from collector.simulator.paging import iso
from collector.simulator.usage import Group, workspaces
from collector.simulator.wire import wire_record
from collector.units import DAY_SECONDS

FOUNDED = 1_704_067_200
"""2024-01-01: nothing of the account that stands still is older. UNIX seconds."""
_YEAR_SECONDS = 365 * DAY_SECONDS
_GROUP_STATUSES = ("Ready", "Ready", "Ready", "Scaling")


def _since(key: int) -> int:
    """When an object with this key was made: some time in the first year."""
    return FOUNDED + key % _YEAR_SECONDS


def workspace_id(seed: int) -> str:
    return workspaces(seed)[0]


def owner_id(key: int) -> str:
    return f"12{key % 10**14:014d}"


def cluster_record(account: Account, cluster: Cluster, now: float) -> dict[str, Any]:
    """`ListClusters` `Clusters[]`. Its times are UNIX seconds in text, as the service's samples have them."""
    listed = [node for node in cluster.nodes if account.is_listed(node.node_id, now)]
    return wire_record(
        ClusterRecord,
        cluster_id=cluster.cluster_id,
        cluster_name=f"lingjun-{cluster.cluster_id[-2:]}",
        cluster_description="",
        cluster_type="AckEdgePro",
        operating_state="running",
        node_count=len(listed),
        node_group_count=len(cluster.node_group_ids),
        hpn_zone="AB"[cluster.key & 1] + "1",
        vpc_id=f"vpc-sim{cluster.key % 16**6:06x}",
        create_time=str(_since(cluster.key)),
        update_time=str(max(_since(cluster.key), int(now) // DAY_SECONDS * DAY_SECONDS)),
        resource_group_id=cluster.resource_group_id,
        task_id="",
        components="{}",
        computing_ip_version="",
        tags=[{"Key": "owner", "Value": "training"}],
    )


def node_record(account: Account, cluster: Cluster, node: Node, now: float) -> dict[str, Any]:
    """`ListClusterNodes` `Nodes[]`. Its times are UNIX milliseconds in text, some with a line feed behind."""
    zone = "AB"[cluster.key & 1] + "1"
    created = _since(node.key)
    return wire_record(
        NodeRecord,
        node_id=node.node_id,
        hostname=node.hostname,
        sn=node.sn,
        operating_state=account.node_state(node.node_id, now),
        machine_type="efg1.nvga1" if node.key & 2 else "efg2.GN8C-hpn",
        node_type="gpu",
        node_group_id=cluster.node_group_id(node),
        node_group_name="default" if node.key & 1 else "spare",
        zone_id=f"{account.region}-b",
        hpn_zone=zone,
        commodity_code="bccluster_eflocomputing_public_cn",
        create_time=f"{created}000" + ("\n" if node.key % 7 == 0 else ""),
        expired_time=f"{created + 3 * _YEAR_SECONDS}000",
        file_system_mount_enabled=bool(node.key & 4),
        hyper_node_id="",
        image_id="i190000000000000000001",
        image_name="Alinux3_x86_gu8xf_P_D3",
        vpc_id=f"vpc-sim{cluster.key % 16**6:06x}",
        v_switch_id=f"vsw-sim{cluster.key % 16**6:06x}",
        task_id="",
        networks=[{"BondName": "bond0", "Ip": node.ip, "SubnetId": "subnet-sim01", "VpdId": "vpd-sim01"}],
        tags=[{"Key": "team", "Value": "speech"}] if node.key & 24 == 0 else [],
    )


def group_record(account: Account, group: Group, now: float) -> dict[str, Any]:
    """`ListResourceGroups` `ResourceGroups[]`. Its status changes now and then."""
    hour = int(now) // 3600
    return wire_record(
        ResourceGroupRecord,
        resource_group_id=group.group_id,
        name=f"train-{group.group_id[-4:]}",
        node_count=group.node_count,
        resource_type="Lingjun" if group.key & 1 else "ECS",
        status=_GROUP_STATUSES[key_of("group status", group.key, hour) % len(_GROUP_STATUSES)],
        version="v2",
        workspace_id=workspace_id(account.seed),
        creator_id=owner_id(group.key),
        gmt_created_time=iso(_since(group.key)),
        gmt_modified_time=iso(max(_since(group.key), hour * 3600)),
        user_vpc={
            "VpcId": f"vpc-sim{group.key % 16**6:06x}",
            "SwitchId": f"vsw-sim{group.key % 16**6:06x}",
            "ExtendedCIDRs": ["10.0.0.0/8"],
        },
    )


def job_record(account: Account, job: Job, now: float) -> dict[str, Any]:
    """`ListJobs` `Jobs[]`, with secrets in the fields that hold some in real jobs."""
    status = job.status(now)
    groups = account.group_ids
    pod_count = str(job.pod_count)
    record: dict[str, Any] = wire_record(
        JobRecord,
        job_id=job.job_id,
        display_name=f"pretrain-{job.slot + 1}" if job.slot % 2 == 0 else f"finetune-{job.slot + 1}",
        job_type=job.job_type,
        status=status,
        sub_status="",
        reason_code="JobFailed" if status == "Failed" else "",
        reason_message="worker-0 exited with code 137" if status == "Failed" else "",
        workspace_id=workspace_id(account.seed),
        workspace_name="simulated",
        resource_id=groups[job.slot % len(groups)] if groups else "",
        resource_type="Lingjun",
        user_id=owner_id(job.key),
        username="trainer",
        gmt_create_time=iso(job.created),
        gmt_submitted_time=iso(job.created + 1),
        gmt_modified_time=iso(min(int(now), job.finished)),
        duration=max(0, min(int(now), job.finished) - job.started),
        priority=1 + job.key % 9,
        node_count=pod_count,
        request_cpu=12 * job.pod_count,
        request_gpu=pod_count,
        request_memory=f"{96 * job.pod_count}Gi",
        envs={"OSS_ACCESS_KEY_SECRET": account.secret(job.job_id, "envs"), "EPOCHS": "3"},
        system_envs={"TOKEN": account.secret(job.job_id, "system envs")},
        user_command=f"python train.py --token {account.secret(job.job_id, 'command')}",
        credential_config={
            "EnableCredentialInject": True,
            "AliyunEnvRoleKey": account.secret(job.job_id, "credential"),
        },
        job_specs=[{"Type": "Worker", "PodCount": job.pod_count, "Image": "registry/pytorch:2.6"}],
        pods=[_pod(job, place, pod_id, now) for place, pod_id in enumerate(job.pod_ids)],
        settings={"Tags": {"suite": "nightly"}},
    )
    if now >= job.started:
        record["GmtRunningTime"] = iso(job.started)
    if now >= job.finished:
        record["GmtFinishTime"] = iso(job.finished)
        ended = {"Succeeded": "GmtSuccessedTime", "Failed": "GmtFailedTime", "Stopped": "GmtStoppedTime"}
        record[ended[job.outcome]] = iso(job.finished)
    return record


def _pod(job: Job, place: int, pod_id: str, now: float) -> dict[str, Any]:
    status = {"Creating": "Pending", "Queuing": "Pending"}.get(job.status(now), job.status(now))
    pod = {
        "PodId": pod_id,
        "PodUid": f"{key_of('pod', job.key, place):016x}",
        "Type": "Worker",
        "Status": status,
        "Ip": f"10.224.{job.slot}.{place + 10}",
        "GmtCreateTime": iso(job.created + 2),
    }
    if now >= job.started:
        pod["GmtStartTime"] = iso(job.started)
    if now >= job.finished:
        pod["GmtFinishTime"] = iso(job.finished)
    return pod


def instance_record(account: Account, instance: Instance, now: float) -> dict[str, Any]:
    """`ListInstances` `Instances[]`, with secrets in the fields that hold some in real notebooks."""
    secret = account.secret(instance.instance_id)
    groups = account.group_ids
    gpus = instance.key % 3
    return wire_record(
        InstanceRecord,
        instance_id=instance.instance_id,
        instance_name=instance.name,
        status="Running" if instance.is_running(now) else "Stopped",
        accelerator_type="GPU" if gpus else "CPU",
        accessibility="PRIVATE",
        accumulated_running_time_in_ms=3_600_000 * (instance.key % 500),
        ecs_spec="",
        environment_variables={"API_TOKEN": secret},
        credential_config={"Enable": True, "AliyunEnvRoleKey": secret},
        image_auth=secret,
        image_name="modelscope:1.20",
        instance_url=f"https://dsw.example.com/{instance.instance_id}?token={secret}",
        jupyterlab_url=f"https://dsw.example.com/{instance.instance_id}/lab?token={secret}",
        terminal_url=f"https://dsw.example.com/{instance.instance_id}/tty?token={secret}",
        web_ide_url=f"https://dsw.example.com/{instance.instance_id}/ide?token={secret}",
        gmt_create_time=iso(_since(instance.key)),
        gmt_modified_time=iso(int(now) // 3600 * 3600),
        payment_type="PayAsYouGo",
        priority=1,
        requested_resource={"CPU": "16", "GPU": str(gpus), "Memory": "64Gi"},
        resource_id=groups[instance.key % len(groups)] if groups else "",
        user_id=owner_id(instance.key),
        user_name="researcher",
        workspace_id=workspace_id(account.seed),
        workspace_name="simulated",
        labels=[{"Key": "stage", "Value": "explore"}],
    )


def resource_record(account: Account, resource: ServingResource, now: float) -> dict[str, Any]:
    """`ListResources` `Resources[]`. `ExtraData` is an object here."""
    instances = 1 + resource.key % 4
    return wire_record(
        EasResourceRecord,
        resource_id=resource.resource_id,
        resource_name=resource.name,
        resource_type="Dedicated" if resource.key & 1 else "SelfManaged",
        cluster_id=resource.cluster_id,
        status="ResourceReady",
        message="Resource is ready",
        cpu_count=16 * instances,
        gpu_count=instances,
        instance_count=instances,
        pre_paid_instance_count=instances - 1,
        post_paid_instance_count=1,
        create_time=iso(_since(resource.key)),
        update_time=iso(max(_since(resource.key), int(now) // DAY_SECONDS * DAY_SECONDS)),
        vendor="",
        extra_data={"SLB": {"Quota": 1}},
    )


def service_record(account: Account, service: Service, now: float) -> dict[str, Any]:
    """`ListServices` `Services[]`, with its token and configuration, which are secrets."""
    instances = service.instances_running(now)
    secret = account.secret(service.scope_id)
    config = msgspec.json.encode({"name": service.name, "token": secret}).decode()
    return wire_record(
        ServiceRecord,
        service_name=service.name,
        service_id=f"eas-m-{service.key % 16**10:010x}",
        service_uid=owner_id(service.key),
        region=service.cluster_id,
        resource=service.resource_id or "EAS_PUBLIC",
        namespace=service.name,
        access_token=secret,
        app_config=config,
        service_config=config,
        status="Running",
        message="Service is running",
        reason="RUNNING",
        cpu=8 * instances,
        gpu=instances,
        memory=32_000 * instances,
        total_instance=instances,
        running_instance=instances,
        pending_instance=0,
        current_version=1 + int(now) // DAY_SECONDS % 7,
        latest_version=7,
        weight=100,
        image="registry/vllm:0.8",
        internet_endpoint=f"http://{service.name}.example.com/api/predict/{service.name}",
        intranet_endpoint=f"http://{service.name}.vpc.example.com/api/predict/{service.name}",
        labels=[{"LabelKey": "team", "LabelValue": "serving"}],
        caller_uid=owner_id(service.key),
        parent_uid=owner_id(service.key >> 8),
        source="PAI",
        create_time=iso(_since(service.key)),
        update_time=iso(max(_since(service.key), int(now) // 21_600 * 21_600)),
        workspace_id=workspace_id(account.seed),
    )
