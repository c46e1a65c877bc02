// Package runtimeapi sends commands to a running HAProxy and parses its answers.
package runtimeapi
