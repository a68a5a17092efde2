// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// The conditions of a WebhookEndpoint. Reconciling and Stalled follow kstatus: they are present only while true, and
// never both; they have the reason of Ready.
const (
	// ConditionReady summarises: accepted, signed, and answered since the last change.
	ConditionReady = "Ready"
	// ConditionAccepted: the URL, its address, its certificate and everything it refers to are in order. A receiver that
	// cannot be reached is no reason against it: that may pass, and TestDelivered says so.
	ConditionAccepted = "Accepted"
	// ConditionSigningKeyReady: there is a valid signing key.
	ConditionSigningKeyReady = "SigningKeyReady"
	// ConditionTestDelivered: the latest test event was answered as it should be.
	ConditionTestDelivered = "TestDelivered"
	// ConditionDelivering: the latest real delivery succeeded.
	ConditionDelivering = "Delivering"
	// ConditionReconciling is present while the controller works towards the current generation.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is present when only a change of the spec, or of what it refers to, can help.
	ConditionStalled = "Stalled"
)

// ConditionSucceeded is the condition of a DeliveryAttempt: Unknown while it is active, as for any bounded object. When
// the retries are used up, its reason is the outcome of the last attempt, which says more than that they are used up.
const ConditionSucceeded = "Succeeded"

// ConditionComplete is the condition of a Redelivery: Unknown while it is carried out, as for any bounded object.
const ConditionComplete = "Complete"

// Reasons of Complete.
const (
	ReasonRunning          = "Running"          // Complete=Unknown: queues are asked
	ReasonRedelivered      = "Redelivered"      // Complete=True: all that the order names is sent again
	ReasonNothingMatched   = "NothingMatched"   // Complete=True: no failed delivery that it names has its payload still
	ReasonCounted          = "Counted"          // Complete=True: a dry run
	ReasonPartial          = "Partial"          // Complete=True: something was left out; the message says what and why
	ReasonEndpointNotFound = "EndpointNotFound" // Complete=False: there is no such endpoint in the namespace
	ReasonNoAnswer         = "NoAnswer"         // Complete=False: no dispatcher has answered
)

// Reasons of Ready, beside Gone.
const (
	ReasonReady                 = "Ready"                 // Ready=True
	ReasonSuspended             = "Suspended"             // Ready=True, Delivering=False: spec.suspend, which is in force
	ReasonNotAccepted           = "NotAccepted"           // Ready=False: see Accepted; Ready=Unknown: the latest change could not be looked at yet
	ReasonSigningKeyMissing     = "SigningKeyMissing"     // Ready=False: see SigningKeyReady
	ReasonTestPending           = "TestPending"           // Ready=False: the test event is on its way
	ReasonTestFailed            = "TestFailed"            // Ready=False: see TestDelivered; deliveries go on
	ReasonWaitingForDispatchers = "WaitingForDispatchers" // Ready=False: dispatchers take the new revision
)

// Reasons of Accepted. Deliveries are held where nothing can be sent or nothing may be; otherwise they are attempted,
// since the receiver may mend it, and fail by their own retries and deadline.
const (
	ReasonAccepted             = "Accepted"             // Accepted=True
	ReasonInspecting           = "Inspecting"           // Accepted=Unknown: the address is being looked at
	ReasonInvalidURL           = "InvalidURL"           // Accepted=False: the URL in the Secret breaks the rules of spec.url; held
	ReasonURLSecretNotFound    = "URLSecretNotFound"    // Accepted=False: the Secret of spec.urlFrom is not there; held
	ReasonURLSecretKeyNotFound = "URLSecretKeyNotFound" // Accepted=False: the Secret of spec.urlFrom lacks the entry; held
	ReasonSecretNotFound       = "SecretNotFound"       // Accepted=False: a Secret of headers or tls; SigningKeyReady=False; held
	ReasonSecretNotLabelled    = "SecretNotLabelled"    // Accepted=False: any Secret but the signing key's; SigningKeyReady=False; held
	ReasonSecretKeyNotFound    = "SecretKeyNotFound"    // Accepted=False: a Secret of headers or tls lacks the entry; SigningKeyReady=False; held
	ReasonInvalidHeader        = "InvalidHeader"        // Accepted=False: a header value in a Secret has control characters; held
	ReasonInvalidTLS           = "InvalidTLS"           // Accepted=False: CA bundle or client certificate cannot be read; held
	ReasonAddressRefused       = "AddressRefused"       // Accepted=False, TestDelivered=False, Succeeded=False: a private or special address; held
	ReasonHostNotFound         = "HostNotFound"         // Accepted=False: DNS has no address; attempted
	ReasonCertificateExpired   = "CertificateExpired"   // Accepted=False: the receiver's certificate has expired or is not valid yet; attempted
	ReasonCertificateUntrusted = "CertificateUntrusted" // Accepted=False: signed by an unknown CA, or for another name; attempted
	ReasonTLSFailed            = "TLSFailed"            // Accepted=False, TestDelivered=False, Succeeded=False: the handshake failed otherwise; attempted
)

// Reasons of SigningKeyReady, beside SecretNotFound, SecretNotLabelled and SecretKeyNotFound.
const (
	ReasonGenerated         = "Generated"         // SigningKeyReady=True: the manager made the key
	ReasonReferenced        = "Referenced"        // SigningKeyReady=True: spec.signing.secretRef
	ReasonInvalidSigningKey = "InvalidSigningKey" // SigningKeyReady=False: not whsec_ and the base64 of 24 to 64 bytes
)

// Reasons of TestDelivered and Succeeded that are the outcome of an attempt, beside AddressRefused and TLSFailed.
const (
	ReasonDelivered   = "Delivered"   // TestDelivered=True, Succeeded=True
	ReasonRejected    = "Rejected"    // TestDelivered=False, Succeeded=False: an answer that is no success, redirects included
	ReasonThrottled   = "Throttled"   // TestDelivered=False, Succeeded=False: 429, or 503 with Retry-After
	ReasonGone        = "Gone"        // TestDelivered=False, Succeeded=False: 410; Ready=False, Delivering=False: held until a change or a good test
	ReasonTimedOut    = "TimedOut"    // TestDelivered=False, Succeeded=False: no whole answer within timeoutSeconds
	ReasonUnreachable = "Unreachable" // TestDelivered=False, Succeeded=False: no connection, or it broke
	ReasonInterrupted = "Interrupted" // TestDelivered=False, Succeeded=False: our own process ended during the request
)

// Reasons of TestDelivered that are not the outcome of an attempt.
const (
	ReasonPending      = "Pending"      // TestDelivered=Unknown: a test is due; Succeeded=Unknown: no attempt yet
	ReasonRequested    = "Requested"    // TestDelivered=Unknown: a requested test is due
	ReasonNotRequested = "NotRequested" // TestDelivered=Unknown: spec.test.when is OnRequest, and nobody asked
	ReasonUnknownEvent = "UnknownEvent" // TestDelivered=False: the requested type does not exist
)

// Reasons of Delivering, beside Suspended and Gone.
const (
	ReasonDelivering      = "Delivering"      // Delivering=True
	ReasonNoDeliveriesYet = "NoDeliveriesYet" // Delivering=Unknown
	ReasonFailing         = "Failing"         // Delivering=False: the latest delivery failed
	ReasonHeld            = "Held"            // Delivering=False: see Accepted and SigningKeyReady
	ReasonNoDispatcher    = "NoDispatcher"    // Delivering=Unknown: no dispatcher is connected for the namespace, no gateway either
)

// Reasons of Succeeded that are not the outcome of an attempt, beside Pending. Interrupted also ends a delivery that was
// under way at too many crashes.
const (
	ReasonRetrying         = "Retrying"         // Succeeded=Unknown: see status.reason and status.nextAttemptTime
	ReasonDeadlineExceeded = "DeadlineExceeded" // Succeeded=False: spec.retry.deadlineSeconds has passed, or would before the next attempt
	ReasonQueueFull        = "QueueFull"        // Succeeded=False: the endpoint's share of the queue was full
	ReasonQueueLost        = "QueueLost"        // Succeeded=False: the queue's disk is gone; a later report of the same delivery replaces it
	ReasonFailed           = "Failed"           // Succeeded=False: for a reason that the manager's version does not know
	ReasonEndpointDeleted  = "EndpointDeleted"  // Succeeded=False: the endpoint was deleted and did not come back
)
