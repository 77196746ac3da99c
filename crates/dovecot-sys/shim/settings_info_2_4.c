/* Names, types and defaults of the driver's settings, as Dovecot 2.4 wants them described.
 * Compiled into the plugin and into the settings module; the two must come from one build, or
 * Dovecot switches the driver off. */

#include "lib.h"
#include "array.h"
#include "settings-parser.h"

#include "settings_2_4.h"

/* Both modules carry this, so that a tool can tell without loading them whether they belong
 * together. */
__attribute__((used, retain))
static const char settings_build[] = "dovecast-settings-build:" DOVECAST_SETTINGS_BUILD;

#define DEFINE(type, name) \
	SETTING_DEFINE_STRUCT_##type("push_notification_kafka_"#name, name, struct dovecast_settings)

static const struct setting_define defines[] = {
#define INSTANCE(name, value) DEFINE(STR, name),
#define GENERAL INSTANCE
#define OURS INSTANCE
#define LIST(name, value) DEFINE(BOOLLIST, name),
#include "options.def"
#undef INSTANCE
#undef GENERAL
#undef OURS
#undef LIST
	DEFINE(STRLIST, settings),
	SETTING_DEFINE_LIST_END,
};

static const struct dovecast_settings defaults = {
#define INSTANCE(name, value) .name = value,
#define GENERAL INSTANCE
#define OURS INSTANCE
#define LIST(name, value) .name = ARRAY_INIT,
#include "options.def"
#undef INSTANCE
#undef GENERAL
#undef OURS
#undef LIST
	.settings = ARRAY_INIT,
};

const struct setting_parser_info dovecast_setting_parser_info = {
	.name = "push_notification_kafka",
	.defines = defines,
	.defaults = &defaults,
	.struct_size = sizeof(struct dovecast_settings),
	.pool_offset1 = 1 + offsetof(struct dovecast_settings, pool),
};
