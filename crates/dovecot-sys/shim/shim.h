/* The boundary between Dovecot's C and the plugin's Rust.
 *
 * The shim alone knows Dovecot's structures; Rust sees only what is declared here. Every pointer
 * that is handed to Rust is valid until the callback returns, every string ends with NUL. raw.rs
 * repeats these declarations: change both. */
#ifndef DOVECAST_SHIM_H
#define DOVECAST_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib.h"
#include "array-decl.h"

struct mail_user;
struct push_notification_driver_txn;

struct dovecast_pair {
	const char *key;
	const char *value;
};

ARRAY_DEFINE_TYPE(dovecast_pair, struct dovecast_pair);

/* A driver instance that is being set up: its user, and what the configuration says. */
struct dovecast_user {
	struct mail_user *handle;
	const char *username;
	const char *service;
	const char *session_id; /* or NULL */
	const char *remote_ip; /* or NULL */
	const char *instance_name; /* as the configuration calls it: 2.3 its options, 2.4 the block's name; or NULL */
	/* Options of this instance; settings for all of them, named as in 2.3 behind
	 * "kafka.notification." */
	const struct dovecast_pair *options, *settings;
	size_t option_count, setting_count;
};

/* What a driver instance wants to hear of in one transaction. Kinds are bits, numbered as
 * EventKind in Rust. */
struct dovecast_wanted {
	uint32_t kinds;
	bool content; /* from, to, subject, snippet */
	bool full; /* what detail=full adds */
};

struct dovecast_strings {
	const char *const *items;
	size_t count;
};

/* MessageNew and MessageAppend */
struct dovecast_content {
	const char *from, *to, *subject, *snippet, *message_id;
	int64_t date; /* seconds, -1: unknown */
	int32_t date_tz; /* minutes east of UTC */
	uint32_t flags;
	struct dovecast_strings keywords;
};

struct dovecast_flag_change {
	uint32_t flags;
	struct dovecast_strings keywords;
};

struct dovecast_message {
	const char *mailbox;
	uint32_t uid, uidvalidity;
	uint32_t kinds; /* which of the wanted kinds happened */
	struct dovecast_content content; /* MessageNew, MessageAppend: never both on one message */
	struct dovecast_flag_change set, cleared;
	/* with dovecast_wanted.full */
	bool has_size, has_old;
	uint64_t size;
	uint32_t old_flags;
	struct dovecast_strings old_keywords;
};

struct dovecast_mailbox_event {
	const char *mailbox;
	uint32_t kinds;
	uint32_t uidvalidity; /* MailboxCreate */
	const char *old_mailbox; /* MailboxRename */
};

struct dovecast_status {
	char guid_hex[33];
	uint64_t highest_modseq;
	uint32_t messages, unseen, recent, uidnext;
};

enum dovecast_log_level {
	DOVECAST_LOG_DEBUG,
	DOVECAST_LOG_INFO,
	DOVECAST_LOG_WARNING,
	DOVECAST_LOG_ERROR,
};

/* The driver, implemented in Rust. No function may unwind. */
struct dovecast_driver {
	/* A driver instance of a user. NULL: it stays silent; that is no error to Dovecot, or every
	 * later driver would be skipped. */
	void *(*init)(const struct dovecast_user *user);
	/* NULL: not interested in this transaction. */
	void *(*begin)(void *instance, struct dovecast_wanted *wanted_r);
	void (*mailbox)(void *instance, void *txn, struct push_notification_driver_txn *handle,
			const struct dovecast_mailbox_event *event);
	void (*message)(void *instance, void *txn, struct push_notification_driver_txn *handle,
			const struct dovecast_message *message);
	void (*end)(void *instance, void *txn);
	void (*deinit)(void *instance);
	/* The timer of dovecast_timer_set() has run off. */
	void (*timer)(void);
	/* The process ends. */
	void (*exit)(void);
};

/* driver.c: called from the plugin's init and deinit. `driver` has to live until unregistered. */
void dovecast_register(const struct dovecast_driver *driver);
void dovecast_unregister(void);

/* host.c: what Rust may ask of Dovecot, from its main thread only. */
const char *dovecast_hostname(void);
void dovecast_log(enum dovecast_log_level level, const char *text);
/* A setting or userdb field of the user; NULL: not there. Valid as long as the user. */
const char *dovecast_user_field(struct mail_user *user, const char *name);
/* Status of the transaction's mailbox, read from a second view of it; FALSE: it cannot be had. */
bool dovecast_mailbox_status(struct push_notification_driver_txn *handle, struct dovecast_status *status_r);
/* A server METADATA entry (RFC 5464: "/private/..." or "/shared/...") of the user: calls `found`
 * with its value if there is one. */
void dovecast_metadata(struct mail_user *user, const char *entry,
		       void (*found)(void *context, const char *value), void *context);
/* One timer for the whole process; setting it again moves it. */
void dovecast_timer_set(unsigned int msecs);
void dovecast_timer_clear(void);
/* Makes threads that start from now on cheap in address space (vsz_limit is a limit of that). */
void dovecast_bound_thread_memory(void);

/* driver.c, for settings_2_3.c and settings_2_4.c: makes the instance. NULL: it stays silent. */
void *dovecast_instance_new(struct mail_user *user, const char *name, const ARRAY_TYPE(dovecast_pair) *options,
			    const ARRAY_TYPE(dovecast_pair) *settings);
/* settings_2_3.c, settings_2_4.c, for host.c: a setting of the plugin section, or NULL. */
const char *dovecast_plugin_setting(struct mail_user *user, const char *name);

/* host.c, for driver.c */
void dovecast_host_init(const struct dovecast_driver *driver);
void dovecast_host_deinit(void);

/* details.c: an event of our own in the framework, for what its events do not carry. */
struct dovecast_details {
	bool has_size, has_old_flags, has_old_keywords;
	uint64_t size;
	uint32_t old_flags;
	struct dovecast_strings old_keywords;
};
struct push_notification_txn_msg;
extern const struct push_notification_event dovecast_details_event;
/* Pass this as the event's configuration; without it (dlog subscribes to every event there is)
 * nothing is gathered. */
extern struct dovecast_details_config { bool on; } dovecast_details_on;
const struct dovecast_details *dovecast_details_get(struct push_notification_txn_msg *msg);

#endif
