#!/bin/sh
# Builds the programs of the end-to-end test into bin/: three parts of Kubernetes, etcd, headgate's binaries, and the test
# itself. The first build of Kubernetes takes about 12 minutes of processor time. Later builds take seconds. Arguments are
# further programs of Kubernetes: "build.sh kubectl" also builds kubectl, which e2e lab needs.
set -eu
cd "$(dirname "$0")"
bin=$PWD/bin
mkdir -p "$bin"

# Without cgo the build needs no C compiler. Without DWARF it compiles and links faster.
export CGO_ENABLED=0
export GOFLAGS="${GOFLAGS:-} -gcflags=all=-dwarf=false"
version=$(cd kubernetes && go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v*.} minor=${minor%%.*}
stamp=k8s.io/component-base/version
cd kubernetes
# One go build compiles the packages that the three share once.
go build -ldflags "-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=$minor" -o "$bin/" \
	k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager k8s.io/kubernetes/cmd/kube-proxy
for program in "$@"; do
	go build -ldflags "-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=$minor" -o "$bin/" "k8s.io/kubernetes/cmd/$program"
done
go build -ldflags "-s -w" -o "$bin/etcd" go.etcd.io/etcd/server/v3

# -buildvcs=false: git refuses to read the checkout of another user.
cd ..
go build -buildvcs=false -ldflags -w -o "$bin/e2e" .
cd ../..
go build -buildvcs=false -ldflags -w -o "$bin/" ./examples/discovery ./examples/frontproxy ./examples/kubeapp ./examples/nodeagent ./examples/nodegate ./examples/terminator
