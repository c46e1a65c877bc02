#!/bin/sh
# Builds what the test cluster runs into bin/: three parts of Kubernetes, headgate's binaries, and the test itself.
# The first build of Kubernetes takes minutes (about 12 of processor time); after that there is nothing left to do.
set -eu
cd "$(dirname "$0")"
bin=$PWD/bin
mkdir -p "$bin"

# Neither a C compiler nor a debugger is wanted: leaving out DWARF saves time in compiling and in linking.
export CGO_ENABLED=0
lean=-gcflags=all=-dwarf=false
version=$(cd kubernetes && go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v*.} minor=${minor%%.*}
stamp=k8s.io/component-base/version
cd kubernetes
# One call for the three, so that what they share is compiled once.
go build $lean -ldflags "-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=$minor" -o "$bin/" \
	k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager k8s.io/kubernetes/cmd/kube-proxy
go build $lean -ldflags "-s -w" -o "$bin/etcd" go.etcd.io/etcd/server/v3

# Not stamped with the commit, so that a checkout of another user's builds as well.
cd ..
go build -buildvcs=false -o "$bin/e2e" .
cd ../..
go build -buildvcs=false -o "$bin/" ./examples/nodeagent ./examples/terminator
