/* Where a driver instance of Dovecot 2.4 is configured: a block `push_notification NAME { driver
 * = kafka ... }`. */

#include "lib.h"
#include "array.h"
#include "mail-user.h"
#include "settings.h"
#include "settings-parser.h"
#include "str.h"

#include "shim.h"
#include "version.h"
#include "settings_2_4.h"

static void add(ARRAY_TYPE(dovecast_pair) *pairs, const char *key, const char *value)
{
	struct dovecast_pair *pair = array_append_space(pairs);

	pair->key = key;
	pair->value = value;
}

static const char *list_to_text(const ARRAY_TYPE(const_string) *list)
{
	string_t *text = t_str_new(128);
	const char *const *word;

	for (word = settings_boollist_get(list); *word != NULL; word++) {
		if (str_len(text) > 0)
			str_append_c(text, ',');
		str_append(text, *word);
	}
	return str_c(text);
}

static void *
new_instance(struct mail_user *user, const char *name, const struct dovecast_settings *set)
{
	ARRAY_TYPE(dovecast_pair) options, settings;
	const char *const *properties;
	unsigned int i, count;

	t_array_init(&options, 16);
	t_array_init(&settings, 16);
#define INSTANCE(name, value) add(&options, #name, set->name);
#define LIST(name, value) add(&options, #name, list_to_text(&set->name));
#define GENERAL(name, value) add(&settings, "kafka_"#name, set->name);
#define OURS(name, value) add(&settings, #name, set->name);
#include "options.def"
	if (array_is_created(&set->settings)) {
		properties = array_get(&set->settings, &count);
		for (i = 0; i + 1 < count; i += 2)
			add(&settings, t_strconcat("settings.", properties[i], NULL), properties[i + 1]);
	}
	return dovecast_instance_new(user, name, &options, &settings);
}

int dovecast_driver_init(struct mail_user *user, pool_t pool ATTR_UNUSED, const char *name, void **context_r,
			 const char **error_r ATTR_UNUSED)
{
	const struct dovecast_settings *set;
	struct event *event = event_create(user->event);
	const char *error;

	/* Not settings_get_filter(): that fails for a block with none of our settings in it, and then
	 * the settings that are given for all blocks would not be found. */
	event_set_ptr(event, SETTINGS_EVENT_FILTER_NAME,
		      p_strdup_printf(event_get_pool(event), "push_notification/%s", settings_section_escape(name)));
	if (settings_get(event, &dovecast_setting_parser_info, 0, &set, &error) < 0) {
		e_error(user->event, "push-notification-kafka: push_notification %s { driver = kafka } is off: %s",
			name, error);
	} else {
		T_BEGIN {
			*context_r = new_instance(user, name, set);
		} T_END;
		settings_free(set);
	}
	event_unref(&event);
	return 0;
}

const char *dovecast_plugin_setting(struct mail_user *user ATTR_UNUSED, const char *name ATTR_UNUSED)
{
	/* 2.4 has no plugin section; userdb fields are looked up by the caller. */
	return NULL;
}
