"""What the inventory operations show of each object of the account, in the services' spelling."""

from __future__ import annotations

from typing import Any

import msgspec

from collector.simulator.account import Account, Cluster, Instance, Job, Service, ServingResource
from collector.simulator.hashing import key_of
from collector.simulator.nodes import Node
from collector.simulator.paging import iso
from collector.simulator.usage import Group, workspaces
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
    return {
        "ClusterId": cluster.cluster_id,
        "ClusterName": f"lingjun-{cluster.cluster_id[-2:]}",
        "ClusterDescription": "",
        "ClusterType": "AckEdgePro",
        "OperatingState": "running",
        "NodeCount": len(listed),
        "NodeGroupCount": len(cluster.node_group_ids),
        "HpnZone": "AB"[cluster.key & 1] + "1",
        "VpcId": f"vpc-sim{cluster.key % 16**6:06x}",
        "CreateTime": str(_since(cluster.key)),
        "UpdateTime": str(max(_since(cluster.key), int(now) // DAY_SECONDS * DAY_SECONDS)),
        "ResourceGroupId": cluster.resource_group_id,
        "TaskId": "",
        "Components": "{}",
        "ComputingIpVersion": "",
        "Tags": [{"Key": "owner", "Value": "training"}],
    }


def node_record(account: Account, cluster: Cluster, node: Node, now: float) -> dict[str, Any]:
    """`ListClusterNodes` `Nodes[]`. Its times are UNIX milliseconds in text, some with a line feed behind."""
    zone = "AB"[cluster.key & 1] + "1"
    created = _since(node.key)
    return {
        "NodeId": node.node_id,
        "Hostname": node.hostname,
        "Sn": node.sn,
        "OperatingState": account.node_state(node.node_id, now),
        "MachineType": "efg1.nvga1" if node.key & 2 else "efg2.GN8C-hpn",
        "NodeType": "gpu",
        "NodeGroupId": cluster.node_group_id(node),
        "NodeGroupName": "default" if node.key & 1 else "spare",
        "ZoneId": f"{account.region}-b",
        "HpnZone": zone,
        "CommodityCode": "bccluster_eflocomputing_public_cn",
        "CreateTime": f"{created}000" + ("\n" if node.key % 7 == 0 else ""),
        "ExpiredTime": f"{created + 3 * _YEAR_SECONDS}000",
        "FileSystemMountEnabled": bool(node.key & 4),
        "HyperNodeId": "",
        "ImageId": "i190000000000000000001",
        "ImageName": "Alinux3_x86_gu8xf_P_D3",
        "VpcId": f"vpc-sim{cluster.key % 16**6:06x}",
        "VSwitchId": f"vsw-sim{cluster.key % 16**6:06x}",
        "TaskId": "",
        "Networks": [{"BondName": "bond0", "Ip": node.ip, "SubnetId": "subnet-sim01", "VpdId": "vpd-sim01"}],
        "Tags": [{"Key": "team", "Value": "speech"}] if node.key & 24 == 0 else [],
    }


def group_record(account: Account, group: Group, now: float) -> dict[str, Any]:
    """`ListResourceGroups` `ResourceGroups[]`. Its status changes now and then."""
    hour = int(now) // 3600
    return {
        "ResourceGroupID": group.group_id,
        "Name": f"train-{group.group_id[-4:]}",
        "NodeCount": group.node_count,
        "ResourceType": "Lingjun" if group.key & 1 else "ECS",
        "Status": _GROUP_STATUSES[key_of("group status", group.key, hour) % len(_GROUP_STATUSES)],
        "Version": "v2",
        "WorkspaceID": workspace_id(account.seed),
        "CreatorID": owner_id(group.key),
        "GmtCreatedTime": iso(_since(group.key)),
        "GmtModifiedTime": iso(max(_since(group.key), hour * 3600)),
        "UserVpc": {
            "VpcId": f"vpc-sim{group.key % 16**6:06x}",
            "SwitchId": f"vsw-sim{group.key % 16**6:06x}",
            "ExtendedCIDRs": ["10.0.0.0/8"],
        },
    }


def job_record(account: Account, job: Job, now: float) -> dict[str, Any]:
    """`ListJobs` `Jobs[]`, with secrets in the fields that hold some in real jobs."""
    status = job.status(now)
    groups = account.group_ids
    pod_count = str(job.pod_count)
    record: dict[str, Any] = {
        "JobId": job.job_id,
        "DisplayName": f"pretrain-{job.slot + 1}" if job.slot % 2 == 0 else f"finetune-{job.slot + 1}",
        "JobType": job.job_type,
        "Status": status,
        "SubStatus": "",
        "ReasonCode": "JobFailed" if status == "Failed" else "",
        "ReasonMessage": "worker-0 exited with code 137" if status == "Failed" else "",
        "WorkspaceId": workspace_id(account.seed),
        "WorkspaceName": "simulated",
        "ResourceId": groups[job.slot % len(groups)] if groups else "",
        "ResourceType": "Lingjun",
        "UserId": owner_id(job.key),
        "Username": "trainer",
        "GmtCreateTime": iso(job.created),
        "GmtSubmittedTime": iso(job.created + 1),
        "GmtModifiedTime": iso(min(int(now), job.finished)),
        "Duration": max(0, min(int(now), job.finished) - job.started),
        "Priority": 1 + job.key % 9,
        "NodeCount": pod_count,
        "RequestCPU": 12 * job.pod_count,
        "RequestGPU": pod_count,
        "RequestMemory": f"{96 * job.pod_count}Gi",
        "Envs": {"OSS_ACCESS_KEY_SECRET": account.secret(job.job_id, "envs"), "EPOCHS": "3"},
        "SystemEnvs": {"TOKEN": account.secret(job.job_id, "system envs")},
        "UserCommand": f"python train.py --token {account.secret(job.job_id, 'command')}",
        "CredentialConfig": {
            "EnableCredentialInject": True,
            "AliyunEnvRoleKey": account.secret(job.job_id, "credential"),
        },
        "JobSpecs": [{"Type": "Worker", "PodCount": job.pod_count, "Image": "registry/pytorch:2.6"}],
        "Pods": [_pod(job, place, pod_id, now) for place, pod_id in enumerate(job.pod_ids)],
        "Settings": {"Tags": {"suite": "nightly"}},
    }
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
    return {
        "InstanceId": instance.instance_id,
        "InstanceName": instance.name,
        "Status": "Running" if instance.is_running(now) else "Stopped",
        "AcceleratorType": "GPU" if gpus else "CPU",
        "Accessibility": "PRIVATE",
        "AccumulatedRunningTimeInMs": 3_600_000 * (instance.key % 500),
        "EcsSpec": "",
        "EnvironmentVariables": {"API_TOKEN": secret},
        "CredentialConfig": {"Enable": True, "AliyunEnvRoleKey": secret},
        "ImageAuth": secret,
        "ImageName": "modelscope:1.20",
        "InstanceUrl": f"https://dsw.example.com/{instance.instance_id}?token={secret}",
        "JupyterlabUrl": f"https://dsw.example.com/{instance.instance_id}/lab?token={secret}",
        "TerminalUrl": f"https://dsw.example.com/{instance.instance_id}/tty?token={secret}",
        "WebIDEUrl": f"https://dsw.example.com/{instance.instance_id}/ide?token={secret}",
        "GmtCreateTime": iso(_since(instance.key)),
        "GmtModifiedTime": iso(int(now) // 3600 * 3600),
        "PaymentType": "PayAsYouGo",
        "Priority": 1,
        "RequestedResource": {"CPU": "16", "GPU": str(gpus), "Memory": "64Gi"},
        "ResourceId": groups[instance.key % len(groups)] if groups else "",
        "UserId": owner_id(instance.key),
        "UserName": "researcher",
        "WorkspaceId": workspace_id(account.seed),
        "WorkspaceName": "simulated",
        "Labels": [{"Key": "stage", "Value": "explore"}],
    }


def resource_record(account: Account, resource: ServingResource, now: float) -> dict[str, Any]:
    """`ListResources` `Resources[]`. `ExtraData` is an object here."""
    instances = 1 + resource.key % 4
    return {
        "ResourceId": resource.resource_id,
        "ResourceName": resource.name,
        "ResourceType": "Dedicated" if resource.key & 1 else "SelfManaged",
        "ClusterId": resource.cluster_id,
        "Status": "ResourceReady",
        "Message": "Resource is ready",
        "CpuCount": 16 * instances,
        "GpuCount": instances,
        "InstanceCount": instances,
        "PrePaidInstanceCount": instances - 1,
        "PostPaidInstanceCount": 1,
        "CreateTime": iso(_since(resource.key)),
        "UpdateTime": iso(max(_since(resource.key), int(now) // DAY_SECONDS * DAY_SECONDS)),
        "Vendor": "",
        "ExtraData": {"SLB": {"Quota": 1}},
    }


def service_record(account: Account, service: Service, now: float) -> dict[str, Any]:
    """`ListServices` `Services[]`, with its token and configuration, which are secrets."""
    instances = service.instances_running(now)
    secret = account.secret(service.scope_id)
    config = msgspec.json.encode({"name": service.name, "token": secret}).decode()
    return {
        "ServiceName": service.name,
        "ServiceId": f"eas-m-{service.key % 16**10:010x}",
        "ServiceUid": owner_id(service.key),
        "Region": service.cluster_id,
        "Resource": service.resource_id or "EAS_PUBLIC",
        "Namespace": service.name,
        "AccessToken": secret,
        "AppConfig": config,
        "ServiceConfig": config,
        "Status": "Running",
        "Message": "Service is running",
        "Reason": "RUNNING",
        "Cpu": 8 * instances,
        "Gpu": instances,
        "Memory": 32_000 * instances,
        "TotalInstance": instances,
        "RunningInstance": instances,
        "PendingInstance": 0,
        "CurrentVersion": 1 + int(now) // DAY_SECONDS % 7,
        "LatestVersion": 7,
        "Weight": 100,
        "Image": "registry/vllm:0.8",
        "InternetEndpoint": f"http://{service.name}.example.com/api/predict/{service.name}",
        "IntranetEndpoint": f"http://{service.name}.vpc.example.com/api/predict/{service.name}",
        "Labels": [{"LabelKey": "team", "LabelValue": "serving"}],
        "CallerUid": owner_id(service.key),
        "ParentUid": owner_id(service.key >> 8),
        "Source": "PAI",
        "CreateTime": iso(_since(service.key)),
        "UpdateTime": iso(max(_since(service.key), int(now) // 21_600 * 21_600)),
        "WorkspaceId": workspace_id(account.seed),
    }
