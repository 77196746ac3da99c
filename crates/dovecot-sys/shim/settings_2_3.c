/* Where a driver instance of Dovecot 2.3 is configured: options behind "kafka:", settings in the
 * plugin section. */

#include "lib.h"
#include "array.h"
#include "hash.h"
#include "mail-storage-settings.h"
#include "mail-user.h"

#include "shim.h"
#include "version.h"

#define SETTING_PREFIX "kafka.notification."

static void
collect_settings(struct mail_user *user, ARRAY_TYPE(dovecast_pair) *settings)
{
	const char *const *envs;
	unsigned int i, count;

	if (!array_is_created(&user->set->plugin_envs))
		return;
	envs = array_get(&user->set->plugin_envs, &count);
	for (i = 0; i + 1 < count; i += 2) {
		if (strncmp(envs[i], SETTING_PREFIX, strlen(SETTING_PREFIX)) == 0) {
			struct dovecast_pair *pair = array_append_space(settings);
			pair->key = envs[i] + strlen(SETTING_PREFIX);
			pair->value = envs[i + 1];
		}
	}
}

int dovecast_driver_init(struct push_notification_driver_config *config, struct mail_user *user,
			 pool_t pool ATTR_UNUSED, void **context_r, const char **error_r ATTR_UNUSED)
{
	struct hash_iterate_context *iter;
	ARRAY_TYPE(dovecast_pair) options, settings;
	struct dovecast_pair pair;

	T_BEGIN {
		t_array_init(&options, 8);
		iter = hash_table_iterate_init(config->config);
		while (hash_table_iterate(iter, config->config, &pair.key, &pair.value))
			array_push_back(&options, &pair);
		hash_table_iterate_deinit(&iter);
		t_array_init(&settings, 8);
		collect_settings(user, &settings);
		*context_r = dovecast_instance_new(user, config->raw_config, &options, &settings);
	} T_END;
	return 0;
}

const char *dovecast_plugin_setting(struct mail_user *user, const char *name)
{
	return mail_user_plugin_getenv(user, name);
}
