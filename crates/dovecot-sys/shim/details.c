/* An event of our own in the push-notification framework: gathers, while the mail is at hand,
 * what detail=full shows and the framework's events do not carry.
 *
 * Not FlagsClear's own `store_old`: the event data is shared by all drivers, and where another
 * driver subscribed first without it, the list that `store_old` appends to was never created. */

#include "lib.h"
#include "array.h"
#include "mail-storage.h"

#include "push-notification-drivers.h"
#include "push-notification-events.h"
#include "push-notification-txn-msg.h"

#include "shim.h"

#define EVENT_NAME "DovecastDetails"

struct dovecast_details_config dovecast_details_on = { TRUE };

static struct dovecast_details *
details_of(struct push_notification_txn *ptxn, struct push_notification_event_config *ec,
	   struct push_notification_txn_msg *msg)
{
	struct dovecast_details *details;

	if (ec->config == NULL)
		return NULL;
	details = push_notification_txn_msg_get_eventdata(msg, EVENT_NAME);
	if (details == NULL) {
		details = p_new(ptxn->pool, struct dovecast_details, 1);
		push_notification_txn_msg_set_eventdata(ptxn, msg, ec, details);
	}
	return details;
}

static void
on_save(struct push_notification_txn *ptxn, struct push_notification_event_config *ec,
	struct push_notification_txn_msg *msg, struct mail *mail)
{
	struct dovecast_details *details = details_of(ptxn, ec, msg);
	uoff_t size;

	if (details == NULL || details->has_size)
		return;
	/* RFC822.SIZE: with CRLF line ends, as RFC 5423's messageSize. */
	if (mail_get_virtual_size(mail, &size) == 0) {
		details->has_size = TRUE;
		details->size = size;
	}
}

static void
keep_old_keywords(struct push_notification_txn *ptxn, struct dovecast_details *details, const char *const *keywords)
{
	details->old_keywords.items = p_strarray_dup(ptxn->pool, keywords);
	details->old_keywords.count = str_array_length(keywords);
	details->has_old_keywords = TRUE;
}

/* The first change of a mail in a transaction tells what was before; flags and keywords change
 * one after the other. */
static void
on_flag_change(struct push_notification_txn *ptxn, struct push_notification_event_config *ec,
	       struct push_notification_txn_msg *msg, struct mail *mail, enum mail_flags old_flags)
{
	struct dovecast_details *details = details_of(ptxn, ec, msg);

	if (details == NULL)
		return;
	if (!details->has_old_flags) {
		details->has_old_flags = TRUE;
		details->old_flags = old_flags;
	}
	if (!details->has_old_keywords)
		keep_old_keywords(ptxn, details, mail_get_keywords(mail));
}

static void
on_keyword_change(struct push_notification_txn *ptxn, struct push_notification_event_config *ec,
		  struct push_notification_txn_msg *msg, struct mail *mail, const char *const *old_keywords)
{
	struct dovecast_details *details = details_of(ptxn, ec, msg);

	if (details == NULL)
		return;
	if (!details->has_old_flags) {
		details->has_old_flags = TRUE;
		details->old_flags = mail_get_flags(mail);
	}
	if (!details->has_old_keywords)
		keep_old_keywords(ptxn, details, old_keywords);
}

const struct dovecast_details *dovecast_details_get(struct push_notification_txn_msg *msg)
{
	return push_notification_txn_msg_get_eventdata(msg, EVENT_NAME);
}

const struct push_notification_event dovecast_details_event = {
	.name = EVENT_NAME,
	.msg_triggers = {
		.save = on_save,
		.append = on_save,
		.flagchange = on_flag_change,
		.keywordchange = on_keyword_change,
	},
};
