//go:build !unix

package haproxyproc

import (
	"os"
	"os/exec"
)

// HAProxy does not run on these systems. The functions only let importers compile.

func setProcAttr(*exec.Cmd) {}

func terminate(p *os.Process) { _ = p.Kill() }

func softStop(p *os.Process) { _ = p.Kill() }

func killGroup(int) {}

func reapGroup(int) {}
