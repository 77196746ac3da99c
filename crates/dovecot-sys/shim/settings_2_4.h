/* The driver's settings of Dovecot 2.4: the plugin and the settings module are compiled from
 * this one definition. */
#ifndef DOVECAST_SETTINGS_2_4_H
#define DOVECAST_SETTINGS_2_4_H

/* All is text, so that a wrong value switches one instance off and does not keep Dovecot from
 * starting. */
struct dovecast_settings {
	pool_t pool;

#define INSTANCE(name, value) const char *name;
#define GENERAL INSTANCE
#define OURS INSTANCE
#define LIST(name, value) ARRAY_TYPE(const_string) name;
#include "options.def"
#undef INSTANCE
#undef GENERAL
#undef OURS
#undef LIST
	/* librdkafka's properties: key, value, key, value, ... */
	ARRAY_TYPE(const_string) settings;
};

extern const struct setting_parser_info dovecast_setting_parser_info;

#endif
