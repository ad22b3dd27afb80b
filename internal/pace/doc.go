// Package pace shares the way to another zone out among those that send on it:
// how many bytes may go in a second, at which hours, and who is next. It knows
// neither volumes nor connections.
//
//   - Limit says how much may be sent, with a Schedule of hours.
//   - Bucket holds what may be sent at the moment: it fills with time and is in
//     debt when more was sent than was asked for.
//   - Shaper lets senders go on one after the other: of those that wait, the one
//     that had the least so far for its weight. Who sends little is never behind
//     who sends much.
//
// Clocks are given; nothing here sleeps but in Flow.Wait.
package pace
