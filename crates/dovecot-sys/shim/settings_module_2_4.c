/* The settings module of Dovecot 2.4 (modules/settings/libpush_notification_kafka_settings.so):
 * tells the configuration reader which settings there are. Loaded by the config process and
 * doveconf, which have none of the plugin's symbols. */

#include "lib.h"
#include "array.h"
#include "settings-parser.h"

#include "settings_2_4.h"

/* Looked up by name. */
extern const char *push_notification_kafka_settings_version;
extern const struct setting_parser_info *push_notification_kafka_settings_set_infos[];

const char *push_notification_kafka_settings_version = DOVECOT_ABI_VERSION;
const struct setting_parser_info *push_notification_kafka_settings_set_infos[] = {
	&dovecast_setting_parser_info,
	NULL
};
