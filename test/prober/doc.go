// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package prober proves the promise while everything dies: real binaries against a real API server, receivers that are
// processes of their own, producers that post at a fixed pace, and faults drawn from a seeded schedule. At the end an
// accountant compares what was answered 202 with what the receivers noted and with what the queues hold on disk.
//
// docs/design/20261125-prober.md says what is compared with what. The parts, from pure to real:
//
//	schedule, behaviour, accountant   decisions, tested by tables
//	proxy, resolver, receiver         the world outside: the network, the DNS, those who receive
//	producer, stand, faults           what happens to whom
//	run                               the order of it all
package prober
