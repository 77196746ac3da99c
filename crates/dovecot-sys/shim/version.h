/* What differs between the versions of Dovecot this shim can be built for. */
#ifndef DOVECAST_VERSION_H
#define DOVECAST_VERSION_H

#include "push-notification-drivers.h"
#include "push-notification-events.h"

#if DOVECOT_VERSION_MAJOR == 2 && DOVECOT_VERSION_MINOR >= 4
#  define DOVECAST_2_4
#endif

#ifdef DOVECAST_2_4
#  define dovecast_event_init(dtxn, name, config) \
	push_notification_event_init(dtxn, name, config, (dtxn)->ptxn->muser->event)
/* settings_2_4.c */
int dovecast_driver_init(struct mail_user *user, pool_t pool, const char *name, void **context_r,
			 const char **error_r);
#else
#  define dovecast_event_init(dtxn, name, config) \
	push_notification_event_init(dtxn, name, config)
/* settings_2_3.c */
int dovecast_driver_init(struct push_notification_driver_config *config, struct mail_user *user, pool_t pool,
			 void **context_r, const char **error_r);
#endif

#endif
