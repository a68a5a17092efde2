// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conditions reads and writes lists of conditions. Each that is set carries the generation that it is about,
// since kubectl wait and kstatus compare it, and its transition time moves only when the status does.
package conditions

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxMessage is a bound of ours, below the API's: a message is a sentence or two.
const maxMessage = 1024

// True is a condition that holds, without the parts that Set fills in; so are the other two.
func True(kind, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message}
}

// False is a condition that does not hold.
func False(kind, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message}
}

// Unknown is a condition that cannot be told yet.
func Unknown(kind, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionUnknown, Reason: reason, Message: message}
}

// Set puts c in place of the condition of its type.
func Set(list *[]metav1.Condition, generation int64, c metav1.Condition) {
	c.ObservedGeneration = generation
	if len(c.Message) > maxMessage {
		c.Message = c.Message[:maxMessage]
	}
	meta.SetStatusCondition(list, c)
}

// Get returns the condition of that type; its zero value, whose status is empty, when there is none.
func Get(list []metav1.Condition, kind string) metav1.Condition {
	if c := meta.FindStatusCondition(list, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// Delete removes the condition of that type.
func Delete(list *[]metav1.Condition, kind string) { meta.RemoveStatusCondition(list, kind) }
