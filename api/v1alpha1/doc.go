// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the kinds of the API group webhooks.gary.club: what a platform team writes (WebhookEndpoint) and
// what the manager records (DeliveryAttempt), with their conditions, reasons and names. It has no behaviour.
//
// The comments of the fields are the manual that kubectl explain prints. Rules that the API server can decide stand
// here as markers; what needs a look at Secrets, DNS or the network is judged by the manager and shown in conditions.
//
// +kubebuilder:object:generate=true
// +groupName=webhooks.gary.club
package v1alpha1
