/* The driver "kafka" of Dovecot's push-notification framework: flattens what the framework gives
 * and calls Rust.
 *
 * The framework keeps one list of event data per transaction for all drivers of a user, so what
 * is found there may have been asked for by another driver: only kinds that this instance wanted
 * are passed on. */

#include "lib.h"
#include "array.h"
#include "mail-user.h"
#include "net.h"

#include "push-notification-drivers.h"
#include "push-notification-events.h"
#include "push-notification-event-flagsclear.h"
#include "push-notification-event-flagsset.h"
#include "push-notification-event-mailboxcreate.h"
#include "push-notification-event-mailboxrename.h"
#include "push-notification-event-messagenew.h"
#include "push-notification-event-messageappend.h" /* needs what the line above includes */
#include "push-notification-txn-mbox.h"
#include "push-notification-txn-msg.h"

#include "shim.h"
#include "version.h"

/* As EventKind in Rust numbers them. */
enum kind {
	FLAGS_CLEAR, FLAGS_SET, MAILBOX_CREATE, MAILBOX_DELETE, MAILBOX_RENAME, MAILBOX_SUBSCRIBE,
	MAILBOX_UNSUBSCRIBE, MESSAGE_APPEND, MESSAGE_EXPUNGE, MESSAGE_NEW, MESSAGE_READ, MESSAGE_TRASH,
	KIND_COUNT
};

static const char *const kind_names[KIND_COUNT] = {
	"FlagsClear", "FlagsSet", "MailboxCreate", "MailboxDelete", "MailboxRename", "MailboxSubscribe",
	"MailboxUnsubscribe", "MessageAppend", "MessageExpunge", "MessageNew", "MessageRead", "MessageTrash"
};

#define MAILBOX_KINDS (BIT(MAILBOX_CREATE) | BIT(MAILBOX_DELETE) | BIT(MAILBOX_RENAME) | \
	BIT(MAILBOX_SUBSCRIBE) | BIT(MAILBOX_UNSUBSCRIBE))

struct driver_txn {
	void *rust;
	uint32_t wanted_kinds;
	bool full;
};

static const struct dovecast_driver *rust;

static struct dovecast_strings strings_of(const ARRAY_TYPE(keywords) *array)
{
	struct dovecast_strings strings = { NULL, 0 };
	unsigned int count;

	if (array_is_created(array)) {
		strings.items = array_get(array, &count);
		strings.count = count;
	}
	return strings;
}

static struct dovecast_strings strings_of_null_terminated(const char *const *items)
{
	struct dovecast_strings strings = { items, 0 };

	while (items != NULL && items[strings.count] != NULL)
		strings.count++;
	return strings;
}

void *dovecast_instance_new(struct mail_user *user, const char *name, const ARRAY_TYPE(dovecast_pair) *options,
			    const ARRAY_TYPE(dovecast_pair) *settings)
{
	const struct ip_addr *ip = user->conn.remote_ip;
	struct dovecast_user view = {
		.handle = user,
		.username = user->username,
		.service = user->service,
		.session_id = user->session_id,
		.remote_ip = ip == NULL || ip->family == 0 ? NULL : net_ip2addr(ip),
		.instance_name = name,
	};
	unsigned int count;

	view.options = array_get(options, &count);
	view.option_count = count;
	view.settings = array_get(settings, &count);
	view.setting_count = count;
	return rust->init(&view);
}

static void subscribe(struct push_notification_driver_txn *dtxn, enum kind kind, const struct dovecast_wanted *wanted)
{
	void *config = NULL;

	if (kind == MESSAGE_NEW || kind == MESSAGE_APPEND) {
		/* Without any flag the framework makes no event data at all: the date is always asked for. */
		enum push_notification_event_message_flags flags = PUSH_NOTIFICATION_MESSAGE_HDR_DATE;
		if (wanted->content)
			flags |= PUSH_NOTIFICATION_MESSAGE_HDR_FROM | PUSH_NOTIFICATION_MESSAGE_HDR_TO |
				PUSH_NOTIFICATION_MESSAGE_HDR_SUBJECT | PUSH_NOTIFICATION_MESSAGE_BODY_SNIPPET;
		if (wanted->full)
			flags |= PUSH_NOTIFICATION_MESSAGE_HDR_MESSAGE_ID | PUSH_NOTIFICATION_MESSAGE_FLAGS |
				PUSH_NOTIFICATION_MESSAGE_KEYWORDS;
		if (kind == MESSAGE_NEW) {
			struct push_notification_event_messagenew_config *new_config =
				p_new(dtxn->ptxn->pool, struct push_notification_event_messagenew_config, 1);
			new_config->flags = flags;
			config = new_config;
		} else {
			struct push_notification_event_messageappend_config *append_config =
				p_new(dtxn->ptxn->pool, struct push_notification_event_messageappend_config, 1);
			append_config->flags = flags;
			config = append_config;
		}
	}
	dovecast_event_init(dtxn, kind_names[kind], config);
}

static bool driver_begin_txn(struct push_notification_driver_txn *dtxn)
{
	struct dovecast_wanted wanted = { 0, FALSE, FALSE };
	struct driver_txn *txn;
	void *rust_txn;
	unsigned int kind;

	if (dtxn->duser->context == NULL)
		return FALSE;
	rust_txn = rust->begin(dtxn->duser->context, &wanted);
	if (rust_txn == NULL)
		return FALSE;

	txn = p_new(dtxn->ptxn->pool, struct driver_txn, 1);
	txn->rust = rust_txn;
	txn->wanted_kinds = wanted.kinds;
	txn->full = wanted.full;
	dtxn->context = txn;
	for (kind = 0; kind < KIND_COUNT; kind++) {
		if ((wanted.kinds & BIT(kind)) != 0)
			subscribe(dtxn, kind, &wanted);
	}
	if (wanted.full)
		dovecast_event_init(dtxn, dovecast_details_event.name, &dovecast_details_on);
	return TRUE;
}

static void
driver_process_mbox(struct push_notification_driver_txn *dtxn, struct push_notification_txn_mbox *mbox)
{
	const struct driver_txn *txn = dtxn->context;
	struct dovecast_mailbox_event event;
	unsigned int kind;

	i_zero(&event);
	event.mailbox = mbox->mailbox;
	for (kind = 0; kind < KIND_COUNT; kind++) {
		void *data;

		if ((txn->wanted_kinds & MAILBOX_KINDS & BIT(kind)) == 0)
			continue;
		data = push_notification_txn_mbox_get_eventdata(mbox, kind_names[kind]);
		if (data == NULL)
			continue;
		event.kinds |= BIT(kind);
		if (kind == MAILBOX_CREATE)
			event.uidvalidity = ((struct push_notification_event_mailboxcreate_data *)data)->uid_validity;
		else if (kind == MAILBOX_RENAME)
			event.old_mailbox = ((struct push_notification_event_mailboxrename_data *)data)->old_mbox;
	}
	if (event.kinds != 0) T_BEGIN {
		rust->mailbox(dtxn->duser->context, txn->rust, dtxn, &event);
	} T_END;
}

/* MessageNew's and MessageAppend's data have the same members in different order. */
#define FILL_CONTENT(content, data) STMT_START { \
	(content)->from = (data)->from; \
	(content)->to = (data)->to; \
	(content)->subject = (data)->subject; \
	(content)->snippet = (data)->snippet; \
	(content)->message_id = (data)->message_id; \
	(content)->date = (data)->date; \
	(content)->date_tz = (data)->date_tz; \
	(content)->flags = (data)->flags; \
	(content)->keywords = strings_of_null_terminated((data)->keywords); \
	} STMT_END

static void fill_kind(struct dovecast_message *message, enum kind kind, void *data)
{
	if (kind == MESSAGE_NEW) {
		struct push_notification_event_messagenew_data *new_data = data;
		FILL_CONTENT(&message->content, new_data);
	} else if (kind == MESSAGE_APPEND) {
		struct push_notification_event_messageappend_data *append_data = data;
		FILL_CONTENT(&message->content, append_data);
	} else if (kind == FLAGS_SET) {
		struct push_notification_event_flagsset_data *set = data;
		message->set.flags = set->flags_set;
		message->set.keywords = strings_of(&set->keywords_set);
	} else if (kind == FLAGS_CLEAR) {
		struct push_notification_event_flagsclear_data *clear = data;
		message->cleared.flags = clear->flags_clear;
		message->cleared.keywords = strings_of(&clear->keywords_clear);
	}
}

static void fill_details(struct dovecast_message *message, struct push_notification_txn_msg *msg)
{
	const struct dovecast_details *details = dovecast_details_get(msg);

	if (details == NULL)
		return;
	message->has_size = details->has_size;
	message->size = details->size;
	message->has_old = details->has_old_flags && details->has_old_keywords;
	message->old_flags = details->old_flags;
	message->old_keywords = details->old_keywords;
}

static void
driver_process_msg(struct push_notification_driver_txn *dtxn, struct push_notification_txn_msg *msg)
{
	const struct driver_txn *txn = dtxn->context;
	struct dovecast_message message;
	unsigned int kind;

	i_zero(&message);
	message.mailbox = msg->mailbox;
	message.uid = msg->uid;
	message.uidvalidity = msg->uid_validity;
	for (kind = 0; kind < KIND_COUNT; kind++) {
		void *data;

		if ((txn->wanted_kinds & ~MAILBOX_KINDS & BIT(kind)) == 0)
			continue;
		data = push_notification_txn_msg_get_eventdata(msg, kind_names[kind]);
		if (data == NULL)
			continue;
		message.kinds |= BIT(kind);
		fill_kind(&message, kind, data);
	}
	if (message.kinds == 0)
		return;
	if (txn->full)
		fill_details(&message, msg);
	T_BEGIN {
		rust->message(dtxn->duser->context, txn->rust, dtxn, &message);
	} T_END;
}

static void driver_end_txn(struct push_notification_driver_txn *dtxn, bool success ATTR_UNUSED)
{
	struct driver_txn *txn = dtxn->context;

	T_BEGIN {
		rust->end(dtxn->duser->context, txn->rust);
	} T_END;
}

static void driver_deinit(struct push_notification_driver_user *duser)
{
	if (duser->context != NULL) T_BEGIN {
		rust->deinit(duser->context);
	} T_END;
}

static const struct push_notification_driver driver_kafka = {
	.name = "kafka",
	.v = {
		.init = dovecast_driver_init,
		.begin_txn = driver_begin_txn,
		.process_mbox = driver_process_mbox,
		.process_msg = driver_process_msg,
		.end_txn = driver_end_txn,
		.deinit = driver_deinit,
	},
};

void dovecast_register(const struct dovecast_driver *driver)
{
	rust = driver;
	dovecast_host_init(driver);
	push_notification_event_register(&dovecast_details_event);
	push_notification_driver_register(&driver_kafka);
}

void dovecast_unregister(void)
{
	T_BEGIN {
		rust->exit();
	} T_END;
	push_notification_driver_unregister(&driver_kafka);
	push_notification_event_unregister(&dovecast_details_event);
	dovecast_host_deinit();
}
