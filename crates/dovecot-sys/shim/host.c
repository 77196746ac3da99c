/* What Rust may ask of Dovecot: log lines, settings, mailbox status, METADATA, one timer. Main
 * thread only. */

#define _GNU_SOURCE /* pthread_setattr_default_np */
#include "lib.h"
#include "array.h"
#include "guid.h"
#include "hostpid.h"
#include "ioloop.h"
#include "mail-namespace.h"
#include "mail-storage.h"
#include "mail-user.h"
#include "mailbox-attribute.h"

#include "push-notification-drivers.h"
#include "push-notification-plugin.h"

#include "shim.h"

#include <malloc.h>
#include <pthread.h>

static const struct dovecast_driver *rust;
static struct event *log_event;
static struct ioloop *main_ioloop;
static struct timeout *timer;

void dovecast_host_init(const struct dovecast_driver *driver)
{
	rust = driver;
	/* As the framework itself: the ioloop that is current while plugins load is the one that lives
	 * on. */
	main_ioloop = current_ioloop;
	log_event = event_create(NULL);
	event_add_category(log_event, push_notification_get_event_category());
	event_set_append_log_prefix(log_event, "push-notification-kafka: ");
	/* Debug lines are librdkafka's, and come only if kafka_debug asks for them: mail_debug need not
	 * be on as well. */
	event_set_forced_debug(log_event, TRUE);
}

void dovecast_host_deinit(void)
{
	dovecast_timer_clear();
	event_unref(&log_event);
}

const char *dovecast_hostname(void)
{
	return my_hostname;
}

void dovecast_log(enum dovecast_log_level level, const char *text)
{
	T_BEGIN {
		switch (level) {
		case DOVECAST_LOG_DEBUG:
			e_debug(log_event, "%s", text);
			break;
		case DOVECAST_LOG_INFO:
			e_info(log_event, "%s", text);
			break;
		case DOVECAST_LOG_WARNING:
			e_warning(log_event, "%s", text);
			break;
		case DOVECAST_LOG_ERROR:
			e_error(log_event, "%s", text);
			break;
		}
	} T_END;
}

const char *dovecast_user_field(struct mail_user *user, const char *name)
{
	const char *const *field = user->userdb_fields;
	const char *value = dovecast_plugin_setting(user, name);
	size_t length = strlen(name);

	if (value != NULL || field == NULL)
		return value;
	for (; *field != NULL; field++) {
		if (strncmp(*field, name, length) == 0 && (*field)[length] == '=')
			return *field + length + 1;
	}
	return NULL;
}

bool dovecast_mailbox_status(struct push_notification_driver_txn *handle, struct dovecast_status *status_r)
{
	/* The transaction's own view must not be synced: it may be inside a save. */
	struct mailbox *box, *open = handle->ptxn->mbox;
	struct mailbox_metadata metadata;
	struct mailbox_status status;
	bool ok = FALSE;

	i_zero(status_r);
	box = mailbox_alloc(mailbox_get_namespace(open)->list, mailbox_get_vname(open), MAILBOX_FLAG_READONLY);
	if (mailbox_sync(box, 0) == 0 && mailbox_get_metadata(box, MAILBOX_METADATA_GUID, &metadata) == 0) {
		mailbox_get_open_status(box, STATUS_MESSAGES | STATUS_UNSEEN | STATUS_RECENT | STATUS_UIDNEXT |
					STATUS_HIGHESTMODSEQ, &status);
		T_BEGIN {
			i_strocpy(status_r->guid_hex, guid_128_to_string(metadata.guid), sizeof(status_r->guid_hex));
		} T_END;
		status_r->highest_modseq = status.highest_modseq;
		status_r->messages = status.messages;
		status_r->unseen = status.unseen;
		status_r->recent = status.recent;
		status_r->uidnext = status.uidnext;
		ok = TRUE;
	}
	mailbox_free(&box);
	return ok;
}

void dovecast_metadata(struct mail_user *user, const char *entry,
		       void (*found)(void *context, const char *value), void *context)
{
	struct mail_namespace *ns = mail_namespace_find_inbox(user->namespaces);
	struct mail_attribute_value value;
	enum mail_attribute_type type;
	struct mailbox *inbox;

	if (strncmp(entry, "/private/", 9) == 0) {
		type = MAIL_ATTRIBUTE_TYPE_PRIVATE;
		entry += 9;
	} else if (strncmp(entry, "/shared/", 8) == 0) {
		type = MAIL_ATTRIBUTE_TYPE_SHARED;
		entry += 8;
	} else {
		return;
	}
	/* Server entries (GETMETADATA "" ...) are kept at the INBOX below a prefix of Dovecot's own. */
	inbox = mailbox_alloc(ns->list, "INBOX", MAILBOX_FLAG_READONLY);
	T_BEGIN {
		const char *key = t_strconcat(MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT_SERVER, entry, NULL);
		if (mailbox_attribute_get(inbox, type, key, &value) > 0 && value.value != NULL)
			found(context, value.value);
	} T_END;
	mailbox_free(&inbox);
}

static void timer_fired(void *context ATTR_UNUSED)
{
	timeout_remove(&timer);
	T_BEGIN {
		rust->timer();
	} T_END;
}

void dovecast_timer_set(unsigned int msecs)
{
	timeout_remove(&timer);
	timer = timeout_add_to(main_ioloop, msecs, timer_fired, (void *)NULL);
}

void dovecast_timer_clear(void)
{
	timeout_remove(&timer);
}

void dovecast_bound_thread_memory(void)
{
#ifdef __GLIBC__
	pthread_attr_t attributes;

	/* Each thread otherwise reserves an arena of 64 MB and a stack of 8 MB: nine brokers would not
	 * fit into the default vsz_limit of 256 MB. It has to stay so: librdkafka starts its broker
	 * threads later. */
	(void)mallopt(M_ARENA_MAX, 1);
	if (pthread_attr_init(&attributes) == 0) {
		if (pthread_attr_setstacksize(&attributes, 512 * 1024) == 0)
			(void)pthread_setattr_default_np(&attributes);
		(void)pthread_attr_destroy(&attributes);
	}
#endif
}
