// Package agentcheck speaks HAProxy's agent-check.
package agentcheck
