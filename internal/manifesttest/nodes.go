// Package manifesttest generates the objects of a cluster of any size for tests and benchmarks, and
// prints them as kubectl does. The result depends only on the arguments.
//
// The objects are as large as in a real cluster, with all fields that kube-apiserver 1.36 stores
// for the node of a kubelet. They include managed fields, as in files from kubectl before 1.21 or
// from other programs.
package manifesttest

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Epoch is the creation time of the first object. All other times are computed from it.
var Epoch = time.Date(2026, time.March, 2, 7, 30, 0, 0, time.UTC)

// Zones are the zones of the nodes: node i is in Zones[i%3].
var Zones = []string{"eu-west-1a", "eu-west-1b", "eu-west-1c"}

// NodeName returns the name of the node with index i.
func NodeName(i int) string {
	i++
	return fmt.Sprintf("ip-10-%d-%d-%d.internal", i>>16&0xff, i>>8&0xff, i&0xff)
}

// NodeAddr returns the internal IPv4 address of the node with index i. The first node has 10.0.0.1.
// Up to 16 million nodes have different addresses.
func NodeAddr(i int) string {
	i++
	return fmt.Sprintf("10.%d.%d.%d", i>>16&0xff, i>>8&0xff, i&0xff)
}

// Nodes returns n healthy nodes, with the indexes 0 to n-1. The caller may change them.
func Nodes(n int) []*corev1.Node {
	nodes := make([]*corev1.Node, n)
	for i := range nodes {
		nodes[i] = node(i)
	}
	return nodes
}

func node(i int) *corev1.Node {
	created := metav1.NewTime(Epoch.Add(time.Duration(i) * time.Minute))
	zone := Zones[i%len(Zones)]
	name := NodeName(i)
	instance := fmt.Sprintf("i-%017x", mix(uint64(i)))
	return &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{
			Name:              name,
			UID:               uid(uint64(i)),
			ResourceVersion:   fmt.Sprint(48_000_000 + i),
			CreationTimestamp: created,
			Labels: map[string]string{
				"beta.kubernetes.io/arch":                  "amd64",
				"beta.kubernetes.io/os":                    "linux",
				"eks.amazonaws.com/capacityType":           "ON_DEMAND",
				"eks.amazonaws.com/nodegroup":              "workers",
				"failure-domain.beta.kubernetes.io/region": zone[:len(zone)-1],
				"failure-domain.beta.kubernetes.io/zone":   zone,
				"kubernetes.io/arch":                       "amd64",
				"kubernetes.io/hostname":                   name,
				"kubernetes.io/os":                         "linux",
				"node.kubernetes.io/instance-type":         "m5.2xlarge",
				"topology.kubernetes.io/region":            zone[:len(zone)-1],
				"topology.kubernetes.io/zone":              zone,
			},
			Annotations: map[string]string{
				"alpha.kubernetes.io/provided-node-ip":                   NodeAddr(i),
				"csi.volume.kubernetes.io/nodeid":                        `{"ebs.csi.aws.com":"` + instance + `"}`,
				"node.alpha.kubernetes.io/ttl":                           "15",
				"volumes.kubernetes.io/controller-managed-attach-detach": "true",
			},
			ManagedFields: nodeManagedFields(created),
		},
		Spec: corev1.NodeSpec{
			PodCIDR:    fmt.Sprintf("10.%d.%d.0/24", 128+i>>8&0x7f, i&0xff),
			PodCIDRs:   []string{fmt.Sprintf("10.%d.%d.0/24", 128+i>>8&0x7f, i&0xff)},
			ProviderID: "aws:///" + zone + "/" + instance,
		},
		Status: nodeStatus(i, name, created),
	}
}

func nodeStatus(i int, name string, created metav1.Time) corev1.NodeStatus {
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("8"),
		corev1.ResourceEphemeralStorage: resource.MustParse("104845292Ki"),
		"hugepages-1Gi":                 resource.MustParse("0"),
		"hugepages-2Mi":                 resource.MustParse("0"),
		corev1.ResourceMemory:           resource.MustParse("32408824Ki"),
		corev1.ResourcePods:             resource.MustParse("58"),
	}
	allocatable := capacity.DeepCopy()
	allocatable[corev1.ResourceCPU] = resource.MustParse("7910m")
	allocatable[corev1.ResourceEphemeralStorage] = resource.MustParse("95551679124")
	allocatable[corev1.ResourceMemory] = resource.MustParse("31391992Ki")

	heartbeat := metav1.NewTime(Epoch.AddDate(0, 1, 0).Add(time.Duration(i%300) * time.Second))
	condition := func(t corev1.NodeConditionType, s corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{
			Type: t, Status: s, LastHeartbeatTime: heartbeat, LastTransitionTime: created,
			Reason: reason, Message: message,
		}
	}
	var machine [2]uint64
	machine[0], machine[1] = mix(uint64(i)+1), mix(uint64(i)+2)
	return corev1.NodeStatus{
		Capacity:    capacity,
		Allocatable: allocatable,
		Conditions: []corev1.NodeCondition{
			condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
			condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
			condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
			condition(corev1.NodeNetworkUnavailable, corev1.ConditionFalse, "CalicoIsUp", "Calico is running on this node"),
			condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"),
		},
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: NodeAddr(i)},
			{Type: corev1.NodeInternalDNS, Address: name},
			{Type: corev1.NodeHostName, Address: name},
		},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
		NodeInfo: corev1.NodeSystemInfo{
			MachineID:               fmt.Sprintf("%016x%016x", machine[0], machine[1]),
			SystemUUID:              string(uid(uint64(i) + 3)),
			BootID:                  string(uid(uint64(i) + 4)),
			KernelVersion:           "6.12.40-64.114.amzn2023.x86_64",
			OSImage:                 "Amazon Linux 2023.8.20250818",
			ContainerRuntimeVersion: "containerd://2.1.4",
			KubeletVersion:          "v1.33.4-eks-99d6cc0",
			OperatingSystem:         "linux",
			Architecture:            "amd64",
		},
		Images: images(i),
	}
}

// images returns some container images for the status of node i. A real kubelet reports at most 50.
func images(i int) []corev1.ContainerImage {
	repositories := []string{
		"602401143452.dkr.ecr.eu-west-1.amazonaws.com/eks/kube-proxy", "docker.io/calico/node", "quay.io/prometheus/node-exporter",
		"registry.k8s.io/coredns/coredns", "registry.example.com/media/tracks", "registry.example.com/web/front",
	}
	list := make([]corev1.ContainerImage, len(repositories))
	for j, repository := range repositories {
		seed := uint64(i%7*len(repositories) + j)
		digest := fmt.Sprintf("%016x%016x%016x%016x", mix(seed), mix(seed+100), mix(seed+200), mix(seed+300))
		list[j] = corev1.ContainerImage{
			Names:     []string{repository + "@sha256:" + digest, fmt.Sprintf("%s:v1.%d.%d", repository, j, seed%10)},
			SizeBytes: int64(10_000_000 + mix(seed)%500_000_000),
		}
	}
	return list
}

func nodeManagedFields(at metav1.Time) []metav1.ManagedFieldsEntry {
	return []metav1.ManagedFieldsEntry{
		managed("kubelet", "", at, `{"f:metadata":{"f:annotations":{".":{},"f:volumes.kubernetes.io/controller-managed-attach-detach":{}},`+
			`"f:labels":{".":{},"f:beta.kubernetes.io/arch":{},"f:beta.kubernetes.io/os":{},"f:kubernetes.io/arch":{},"f:kubernetes.io/hostname":{},`+
			`"f:kubernetes.io/os":{},"f:node.kubernetes.io/instance-type":{},"f:topology.kubernetes.io/region":{},"f:topology.kubernetes.io/zone":{}}},`+
			`"f:spec":{"f:providerID":{}}}`),
		managed("kube-controller-manager", "", at, `{"f:metadata":{"f:annotations":{"f:node.alpha.kubernetes.io/ttl":{}}},`+
			`"f:spec":{"f:podCIDR":{},"f:podCIDRs":{".":{},"v:\"10.128.0.0/24\"":{}}}}`),
		managed("kubelet", "status", at, `{"f:status":{"f:conditions":{`+
			`"k:{\"type\":\"DiskPressure\"}":{"f:lastHeartbeatTime":{}},"k:{\"type\":\"MemoryPressure\"}":{"f:lastHeartbeatTime":{}},`+
			`"k:{\"type\":\"PIDPressure\"}":{"f:lastHeartbeatTime":{}},"k:{\"type\":\"Ready\"}":{"f:lastHeartbeatTime":{},"f:lastTransitionTime":{},`+
			`"f:message":{},"f:reason":{},"f:status":{}}},"f:images":{}}}`),
	}
}

func managed(manager, subresource string, at metav1.Time, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &at,
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields), Subresource: subresource,
	}
}

func uid(seed uint64) types.UID {
	a, b := mix(seed*2+1), mix(seed*2+2)
	return types.UID(fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0xfff, b&0xffffffffffff))
}

// mix returns a number that looks random but depends only on x. It makes identifiers look real. It
// is the last step of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
